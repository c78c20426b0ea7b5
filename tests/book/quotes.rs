//! Quoted blocks: each says where it comes from, and is that to the byte.

use std::fs;
use std::ops::Range;
use std::path::Path;

use check::Failure;
use proc_macro2::Span;
use regex_lite::{Captures, Regex};
use similar::TextDiff;
use syn::spanned::Spanned;
use syn::{ImplItem, Item, TraitItem, Type, UseTree};
use tests::as_given_out;

use crate::chapter::{Block, Chapter, report};
use crate::transcripts::Directives;

/// A file, an item or a part. A text in quotes may hold quotes.
const REFERENCE: &str = r#"([^\s,]+)(?:, ([\w:]+))?(?:, from "(.+?)" to "(.+?)")?"#;

/// Compares every block of a chapter with its source, and returns how many were compared.
///
/// # Errors
/// A block differs, has no source or a wrong one; names each.
pub(crate) fn compare(chapter: &Chapter, root: &Path) -> Result<usize, Failure> {
    let mut faults = chapter.faults.clone();
    let mut compared = 0;
    for comment in &chapter.comments {
        if comment.text != "end background" {
            let fault = format!("\"{}\" does not stand directly above a fence", comment.text);
            faults.push(chapter.at(comment.line, fault));
        }
    }
    for block in &chapter.blocks {
        match quotation(block, root) {
            Err(fault) => faults.push(chapter.at(block.line, fault)),
            Ok(Some(source)) => {
                compared += 1;
                if source != block.text {
                    faults.push(chapter.at(block.line, difference(block, &source)));
                }
            }
            Ok(None) => {}
        }
    }
    report(faults)?;
    Ok(compared)
}

/// Writes every block anew whose source can be found, and leaves all else as it is.
///
/// # Errors
/// The chapter cannot be written.
pub(crate) fn rewrite(chapter: &Chapter, root: &Path) -> Result<Chapter, Failure> {
    let mut text = chapter.text.clone();
    // From the last to the first, so that the ranges of those before stay right.
    for block in chapter.blocks.iter().rev() {
        if let Ok(Some(source)) = quotation(block, root) {
            text.replace_range(block.range.clone(), &indented(&source, &block.indentation));
        }
    }
    if text != chapter.text {
        fs::write(&chapter.path, &text)?;
    }
    Chapter::parse(chapter.path.clone(), &chapter.name, text)
}

fn difference(block: &Block, source: &str) -> String {
    let comment = block.comment.as_deref().unwrap_or_default();
    let diff = TextDiff::from_lines(block.text.as_str(), source);
    format!(
        "differs from its source; `REWRITE=1 cargo test -p tests --test book` writes it anew\n{}",
        diff.unified_diff().context_radius(2).header("the chapter", comment)
    )
}

/// What must stand in a block, or `None` if it is a sketch or a transcript.
fn quotation(block: &Block, root: &Path) -> Result<Option<String>, Failure> {
    if block.language.is_empty() {
        return Err("a fence without a language".into());
    }
    if block.language == "console" {
        Directives::of(block)?;
        return Ok(None);
    }
    let comment = block.comment.as_deref().ok_or("no `source` or `sketch` directly above")?;
    if comment == "sketch" {
        return Ok(None);
    }
    let source = comment
        .strip_prefix("source: ")
        .ok_or_else(|| format!("\"{comment}\" is neither a `source` nor `sketch`"))?;
    let is_diff = source.starts_with("diff ");
    if is_diff != (block.language == "diff") {
        return Err("a block is of the language diff if its source is one, and only then".into());
    }
    let text = if is_diff { read_diff(source, root)? } else { read_one(source, root)? };
    if text.lines().any(|line| line.trim_start().starts_with("```")) {
        return Err("the source has a fence in it, so it cannot be quoted".into());
    }
    Ok(Some(text))
}

fn read_one(source: &str, root: &Path) -> Result<String, Failure> {
    let whole = Regex::new(&format!("^{REFERENCE}$"))?;
    let found = whole.captures(source).ok_or_else(|| {
        format!("\"{source}\" is not of the form FILE, ITEM, from \"TEXT\" to \"TEXT\"")
    })?;
    read(&found, 1, root)
}

fn read_diff(source: &str, root: &Path) -> Result<String, Failure> {
    let two = Regex::new(&format!("^diff {REFERENCE} {REFERENCE}$"))?;
    let found = two
        .captures(source)
        .ok_or_else(|| format!("\"{source}\" does not name two sources, as in diff FILE FILE"))?;
    let (before, after) = (read(&found, 1, root)?, read(&found, 5, root)?);
    let diff = TextDiff::from_lines(&before, &after);
    Ok(diff.unified_diff().context_radius(3).header(&found[1], &found[5]).to_string())
}

/// What a reference means: groups `first` to `first + 3` of [`REFERENCE`].
fn read(found: &Captures<'_>, first: usize, root: &Path) -> Result<String, Failure> {
    let group = |at: usize| found.get(first + at).map(|group| group.as_str());
    let file = group(0).unwrap_or_default();
    let path = root.join(file);
    // A reader may have mended the starter of an exercise.
    let text = match file.split('/').nth(2) {
        Some("starter") => as_given_out(&path),
        _ => fs::read_to_string(&path).map_err(Failure::from),
    };
    let text = text.map_err(|error| format!("cannot read {file}: {error}"))?;
    let mut text = text.as_str();
    if let Some(path) = group(1) {
        text = item(text, path).map_err(|error| format!("{file}: {error}"))?;
    }
    if let (Some(from), Some(to)) = (group(2), group(3)) {
        text = part(text, from, to).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(without_common_indentation(text))
}

/// From the first line with one text to the first with the other, which may be the same line.
fn part<'a>(text: &'a str, from: &str, to: &str) -> Result<&'a str, Failure> {
    let start = text.find(from).ok_or_else(|| format!("\"{from}\" is not there"))?;
    let start = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let end = text[start..]
        .find(to)
        .ok_or_else(|| format!("\"{to}\" is not there, or only before \"{from}\""))?;
    Ok(&text[start..end_of_line(text, start + end)])
}

/// An item by its path, with its doc comment and attributes, in whole lines.
fn item<'a>(text: &'a str, path: &str) -> Result<&'a str, Failure> {
    let path_parts: Vec<&str> = path.split("::").collect();
    let mut found = Vec::new();
    search(&syn::parse_file(text)?.items, &path_parts, &mut found);
    match found.as_slice() {
        [] => Err(format!("there is no {path}").into()),
        [span] => {
            let Range { start, end } = span.byte_range();
            let start = text[..start].rfind('\n').map_or(0, |end| end + 1);
            Ok(&text[start..end_of_line(text, end)])
        }
        [first, second, ..] => Err(format!(
            "there is more than one {path}, in line {} and in line {}",
            first.start().line,
            second.start().line
        )
        .into()),
    }
}

/// Finds the items of a name, the members of a type or trait, and the items of a module.
fn search(items: &[Item], path: &[&str], found: &mut Vec<Span>) {
    let (name, member) = match path {
        [name] => (*name, None),
        [name, rest @ ..] => (*name, Some(rest)),
        [] => return,
    };
    for item in items {
        match (item, member) {
            (_, None) if names(item).iter().any(|own| own == name) => found.push(item.span()),
            (Item::Mod(module), Some(rest)) if module.ident == name => {
                let items = module.content.as_ref().map(|(_, items)| items.as_slice());
                search(items.unwrap_or_default(), rest, found);
            }
            (Item::Impl(block), Some([member])) if is_named(&block.self_ty, name) => {
                found.extend(block.items.iter().filter_map(|item| {
                    let own = match item {
                        ImplItem::Fn(function) => &function.sig.ident,
                        ImplItem::Const(constant) => &constant.ident,
                        ImplItem::Type(alias) => &alias.ident,
                        _ => return None,
                    };
                    (own == member).then(|| item.span())
                }));
            }
            (Item::Trait(block), Some([member])) if block.ident == name => {
                found.extend(block.items.iter().filter_map(|item| {
                    let TraitItem::Fn(function) = item else { return None };
                    (function.sig.ident == member).then(|| item.span())
                }));
            }
            _ => {}
        }
    }
}

fn is_named(kind: &Type, name: &str) -> bool {
    let Type::Path(kind) = kind else { return false };
    kind.path.segments.last().is_some_and(|segment| segment.ident == name)
}

/// What an item brings into scope: one name, or those of a `use`.
fn names(item: &Item) -> Vec<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => match &item.ident {
            Some(name) => name,
            None => return Vec::new(),
        },
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Use(item) => return used_names(&item.tree),
        _ => return Vec::new(),
    };
    vec![name.to_string()]
}

fn used_names(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => used_names(&path.tree),
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(rename) => vec![rename.rename.to_string()],
        UseTree::Glob(_) => Vec::new(),
        UseTree::Group(group) => group.items.iter().flat_map(used_names).collect(),
    }
}

fn end_of_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

fn without_common_indentation(text: &str) -> String {
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let filled = text.lines().filter(|line| !line.is_empty());
    let common = filled.map(indentation).min().unwrap_or(0);
    let lines = text.split_inclusive('\n');
    lines.map(|line| if line == "\n" { line } else { line.get(common..).unwrap_or(line) }).collect()
}

fn indented(text: &str, indentation: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines
        .map(|line| if line == "\n" { line.to_owned() } else { format!("{indentation}{line}") })
        .collect()
}
