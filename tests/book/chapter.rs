//! A chapter, taken apart: its blocks with what stands above them, headings, links and list items.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use check::Failure;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use regex_lite::Regex;

/// A file in Markdown.
pub(crate) struct Chapter {
    pub(crate) path: PathBuf,
    /// Its path from the root of the repository, such as `chapters/04-fork.md`.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
    /// Comments that belong to no block.
    pub(crate) comments: Vec<Comment>,
    pub(crate) headings: Vec<String>,
    pub(crate) links: Vec<Link>,
    /// The items of lists, each in one line.
    pub(crate) items: Vec<Item>,
    /// What no chapter may have: a line and what is wrong there.
    pub(crate) faults: Vec<String>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The number of the line that opens it.
    pub(crate) line: usize,
    pub(crate) language: String,
    /// What stands in the comment directly above.
    pub(crate) comment: Option<String>,
    /// Where its lines are in the chapter's text.
    pub(crate) range: Range<usize>,
    /// What stands in front of each of its lines, in a list for example.
    pub(crate) indentation: String,
    /// Its lines, without the indentation.
    pub(crate) text: String,
}

pub(crate) struct Comment {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A link or a picture.
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

pub(crate) struct Item {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Chapter {
    /// Reads a file; `name` is its path from `root`.
    pub(crate) fn read(root: &Path, name: &str) -> Result<Chapter, Failure> {
        let path = root.join(name);
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {name}: {error}"))?;
        Chapter::parse(path, name, text)
    }

    pub(crate) fn parse(path: PathBuf, name: &str, text: String) -> Result<Chapter, Failure> {
        let mut chapter = Chapter {
            path,
            name: name.to_owned(),
            text: String::new(),
            blocks: Vec::new(),
            comments: Vec::new(),
            headings: Vec::new(),
            links: Vec::new(),
            items: Vec::new(),
            faults: Vec::new(),
        };
        let attribute = Regex::new(r#"(?:href|src|srcset)="([^"]*)""#)?;
        let mut heading: Option<String> = None;
        for (event, range) in
            Parser::new_ext(&text, Options::ENABLE_GFM | Options::ENABLE_TABLES).into_offset_iter()
        {
            let line = line_of(&text, range.start);
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    match Block::cut(&text, line, &language, range) {
                        Ok(block) => chapter.blocks.push(block),
                        Err(fault) => chapter.fault(line, fault),
                    }
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) => {
                    chapter.fault(line, "a block by indentation; use a fence with a language");
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => chapter.headings.extend(heading.take()),
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    chapter.links.push(Link { line, target: dest_url.into_string() });
                }
                Event::Start(Tag::Item) => {
                    let words: Vec<&str> = text[range].split_whitespace().collect();
                    chapter.items.push(Item { line, text: words.join(" ") });
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    if html.trim_start().starts_with("```") {
                        chapter.fault(line, "a fence inside HTML; it needs an empty line above");
                    }
                    if html.trim_start().starts_with("<!--") {
                        let text = html.trim().trim_start_matches("<!--").trim_end_matches("-->");
                        chapter.comments.push(Comment { line, text: text.trim().to_owned() });
                    }
                    let targets = attribute.captures_iter(&html).map(|found| found[1].to_owned());
                    chapter.links.extend(targets.map(|target| Link { line, target }));
                }
                _ => {}
            }
        }
        let blocks = &chapter.blocks;
        chapter.comments.retain(|comment| {
            !blocks.iter().any(|block| block.comment.is_some() && block.line == comment.line + 1)
        });
        chapter.text = text;
        Ok(chapter)
    }

    /// The name without the folder.
    pub(crate) fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// A sentence about a line, as compilers write it.
    pub(crate) fn at(&self, line: usize, fault: impl std::fmt::Display) -> String {
        format!("{}:{line}: {fault}", self.name)
    }

    fn fault(&mut self, line: usize, fault: &str) {
        self.faults.push(self.at(line, fault));
    }
}

impl Block {
    /// The fenced block that a parser found at `range`.
    fn cut(
        text: &str,
        line: usize,
        language: &str,
        range: Range<usize>,
    ) -> Result<Block, &'static str> {
        let start_of_line = text[..range.start].rfind('\n').map_or(0, |end| end + 1);
        let indentation = text[start_of_line..range.start].to_owned();
        if !indentation.trim().is_empty() {
            return Err("a fence that does not begin its line");
        }
        let fenced = text[range.clone()].trim_end();
        let first = fenced.find('\n').ok_or("a fence that is not closed")? + 1;
        let last = fenced.rfind('\n').map_or(0, |end| end + 1);
        if !fenced[last..].trim_start().starts_with(['`', '~']) {
            return Err("a fence that is not closed");
        }
        let range = range.start + first..range.start + last;
        let lines = text[range.clone()].split_inclusive('\n');
        let above = text[..start_of_line].lines().next_back().unwrap_or_default().trim();
        let comment = above.strip_prefix("<!--").and_then(|above| above.strip_suffix("-->"));
        Ok(Block {
            line,
            language: language.to_owned(),
            comment: comment.map(|comment| comment.trim().to_owned()),
            range,
            text: lines.map(|line| line.strip_prefix(&indentation).unwrap_or(line)).collect(),
            indentation,
        })
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The faults as one failure, if there are any.
pub(crate) fn report(faults: Vec<String>) -> Result<(), Failure> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n\n").into()) }
}
