//! The test of the book, tested: it passes a small chapter that is true, and finds every small lie.

use std::fs;
use std::path::Path;

use check::Failure;
use check::exercises::Exercise;
use libtest_mimic::Trial;
use tempfile::TempDir;
use tests::{ensure, workspace};

use crate::chapter::{Block, Chapter};
use crate::transcripts::Script;
use crate::{all_chapters, exercises, is_missing, links, quotes, trial};

const NAME: &str = "chapters/fixture.md";
const FIXTURE: &str = include_str!("fixture.md");

const NOTES: &str = "[dependencies]\nnix = \"0.30\"\n\n[features]\n";

const BEFORE: &str = r#"//! Not compiled.

use std::path::{Path, PathBuf};

struct Client {
    is_there: bool,
}

impl Client {
    /// Hears.
    fn hear(&self) -> bool {
        while self.is_there {
            return true;
        }

        false
    }
}

/// One client. Grüße, 世界.
#[inline]
fn serve(number: u32) -> u32 {
    // This comment stays.
    number + 1
}

fn twice() {}

#[cfg(test)]
fn twice() {}
"#;

/// A small lie: a text of the fixture, what stands there instead, and what the failure says.
type Lie = (&'static str, &'static str, &'static str);

const QUOTES: [Lie; 17] = [
    ("number + 1\n}\n```", "number  + 1\n}\n```", "chapters/fixture.md:18: differs"),
    ("    // This comment stays.\n    number", "    number", "+    // This comment stays."),
    ("nix = \"0.30\"\n\n", "nix = \"0.30\"\n \n", "differs"),
    ("+++ after.rs", "+++ else.rs", "differs"),
    ("<!-- sketch -->\n", "", "no `source` or `sketch`"),
    ("<!-- sketch -->\n", "<!-- sketch -->\n\n", "does not stand directly above a fence"),
    ("<!-- sketch -->", "<!-- sketched -->", "neither"),
    ("```python", "```", "a fence without a language"),
    ("<!-- source: before.rs, serve -->", "<!-- source: before.rs, served -->", "no served"),
    ("<!-- source: before.rs, serve -->", "<!-- source: before.rs, twice -->", "more than one"),
    (
        "<!-- source: before.rs, Path -->",
        "<!-- source: behind.rs, Path -->",
        "cannot read behind.rs",
    ),
    ("from \"while\" to \"return\"", "from \"return\" to \"while\"", "only before"),
    ("from \"while\" to \"return\"", "from \"whilst\" to \"return\"", "\"whilst\" is not there"),
    ("from \"while\" to \"return\"", "until \"return\"", "not of the form"),
    ("diff before.rs, serve after.rs, serve", "diff before.rs, serve", "does not name two"),
    ("<!-- server -->", "<!-- sever -->", "no directive"),
    ("## Transcripts", "<details>\n```rust\n```\n</details>", "a fence inside HTML"),
];

const TRANSCRIPTS: [Lie; 15] = [
    ("nobody\n```", "somebody\n```", "chapters/fixture.md:90: `curl -s http://127.0.0.1:8080/"),
    ("serving demo", "serving  demo", "+step04-fork"),
    ("and a quote\n$", "and a quotation\n$", "-and a quotation"),
    ("Server: step04-fork", "Server: step05-threads", "+Server: step04-fork"),
    ("0.001234,", "3.001234,", "-(3 or more), "),
    ("HEAD /news.html 200", "HEAD /news.html 404", "the server printed something else"),
    ("...\n```", "```", "the server printed something else"),
    ("step04-fork\nstep04-fork\n", "step04-fork\n", "+step04-fork"),
    ("./pid-on 8080", "./pid-on 1", "+pid-on: no server of yours listens on port 1"),
    ("listens 1", "listens 3", "-listens 3"),
    ("...\n8\n", "...\n7\n", "-..."),
    ("GET /a.html 404 0", "GET /a.html 200 0", "the server printed something else"),
    ("stopping: answers", "stopping: all answers", "the server printed something else"),
    ("not 'many'", "not 'few'", "-step03-static-files"),
    (
        "<!-- end background -->",
        "<!-- end background -->\n\n<!-- end background -->",
        "nothing runs",
    ),
];

const LINKS: [Lie; 6] = [
    ("(#a-heading-twice-1)", "(#a-heading-twice-2)", "no such heading"),
    ("(fixture.md#transcripts)", "(fixture.md#transcript)", "no such heading"),
    ("(fixture.md#transcripts)", "(missing.md)", "No such file"),
    ("(fixture.md#transcripts)", "(../before.rs)", "outside the book"),
    ("(fixture.md#transcripts)", "(ftp://example.org/)", "neither a path nor"),
    ("(fixture.md#transcripts)", "(https://example)", "not an address"),
];

const OFFERS: [Lie; 6] = [
    ("**04b**", "**04z**", "there is no exercise 04z"),
    ("check -- 04b", "check -- 04z", "there is no exercise 04z"),
    ("*Zombies*", "*Ghosts*", "the title of 04b"),
    ("(25 minutes)", "(20 minutes)", "25 minutes"),
    ("- **04b**, *Zombies* (25 minutes):", "- **04b** *Zombies*:", "not in its form"),
    (
        "- **04b**",
        "- **04b**, *Zombies* (25 minutes): twice `cargo run -p check -- 04b`\n- **04b**",
        "2 times",
    ),
];

/// A book of a few pages, each behind its name.
const PAGES: &str = "\
=== SUMMARY.md
- [Front](README.md)
- [A](00-a.md)
- [B](b.md)
- [C](01-c.md)
- [Words](glossary.md)
=== README.md
Begin: [A](00-a.md)
=== 00-a.md
A [zombie](glossary.md#zombie).

Next: [B](b.md)
=== b.md
Next: [C](01-c.md)
=== 01-c.md
Next: [Words](glossary.md)
=== glossary.md
# Words
### zombie
";

const CONTENTS: [Lie; 6] = [
    ("- [B](b.md)\n", "", "SUMMARY.md lists"),
    ("- [B](b.md)\n", "- [B](b.md)\n- [B](b.md)\n", "SUMMARY.md lists"),
    (
        "- [A](00-a.md)\n- [B](b.md)\n- [C](01-c.md)",
        "- [C](01-c.md)\n- [B](b.md)\n- [A](00-a.md)",
        "order",
    ),
    ("Next: [B](b.md)", "Next: [C](01-c.md)", "00-a.md leads to Some(\"01-c.md\")"),
    ("Next: [Words](glossary.md)", "The end.", "01-c.md leads to None"),
    ("### zombie", "### ghost", "no chapter leads to glossary.md#ghost"),
];

/// A server with a child for each client, clients in the background, and a lie.
const LEAVES_MUCH: &str = "
```console
$ cargo run -p step04-fork -- FOLDER
...
```

<!-- background: 1 connection -->
```console
$ exec 3<>/dev/tcp/127.0.0.1/8080; tail -f FOLDER/file & tail -f FOLDER/file; true
```

```console
$ tail -f FOLDER/file & echo something else
something
```
";

pub(crate) fn trials() -> Vec<Trial> {
    let needs_tools = ["curl", "ps", "ss"].into_iter().any(is_missing);
    vec![
        trial("the test itself: lies in quotes are found", quotes_are_compared),
        trial("the test itself: a lie in each chapter is found", chapters_are_compared),
        trial(
            "the test itself: a source edited by one space is found and mended",
            source_is_edited,
        ),
        trial(
            "the test itself: lies in transcripts are found (needs curl, ps, ss)",
            transcripts_are_compared,
        )
        .with_ignored_flag(needs_tools),
        trial("the test itself: a failed replay leaves no process", nothing_is_left),
        trial("the test itself: dead links are found", links_are_followed),
        trial("the test itself: wrong offers of exercises are found", offers_are_compared),
        trial("the test itself: pages out of place are found", contents_are_compared),
    ]
}

/// A repository with the fixture as its one chapter.
fn repository() -> Result<TempDir, Failure> {
    let root = tempfile::tempdir()?;
    fs::create_dir(root.path().join("chapters"))?;
    for (name, text) in [
        (NAME, FIXTURE),
        ("notes.toml", NOTES),
        ("before.rs", BEFORE),
        ("after.rs", &BEFORE.replace("number + 1", "number + 2")),
    ] {
        fs::write(root.path().join(name), text)?;
    }
    Ok(root)
}

/// The true chapter passes, and each lie by itself is found.
fn find(
    root: &Path,
    lies: &[Lie],
    compare: impl Fn(&Chapter) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = root.join(NAME);
    find_in(FIXTURE, lies, |text| compare(&Chapter::parse(path.clone(), NAME, text.to_owned())?))
}

/// The same for any text.
fn find_in(
    truths: &str,
    lies: &[Lie],
    compare: impl Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    compare(truths)?;
    for (truth, lie, said) in lies {
        ensure!(truths.contains(truth), "the fixture has no {truth:?}");
        let Err(failure) = compare(&truths.replacen(truth, lie, 1)) else {
            return Err(format!("{lie:?} in place of {truth:?} was not found").into());
        };
        ensure!(failure.to_string().contains(said), "{lie:?}: no {said:?} in: {failure}");
    }
    Ok(())
}

fn quotes_are_compared() -> Result<(), Failure> {
    let root = repository()?;
    find(root.path(), &QUOTES, |chapter| {
        let compared = quotes::compare(chapter, root.path())?;
        ensure!(compared == 8, "{compared} blocks compared");
        Ok(())
    })
}

/// One letter more, in the last quote of each chapter that has one. Only the first chapter has none.
fn chapters_are_compared() -> Result<(), Failure> {
    for chapter in all_chapters()? {
        let has_number = chapter.file_name().starts_with(|first: char| first.is_ascii_digit());
        let is_quote = |block: &&Block| {
            block.comment.as_ref().is_some_and(|comment| comment.starts_with("source: "))
        };
        let Some(last) = chapter.blocks.iter().rfind(is_quote) else {
            let name = chapter.file_name();
            ensure!(!has_number || name.starts_with("00"), "{name} quotes nothing");
            continue;
        };
        let mut text = chapter.text.clone();
        text.insert(last.range.start, 'x');
        let lie = Chapter::parse(chapter.path.clone(), &chapter.name, text)?;
        let failure = quotes::compare(&lie, workspace()).err();
        let failure = failure.ok_or_else(|| format!("{}: not found", chapter.name))?;
        let place = format!("{}:{}: differs", chapter.name, last.line);
        ensure!(failure.to_string().contains(&place), "no {place:?} in: {failure}");
    }
    Ok(())
}

fn source_is_edited() -> Result<(), Failure> {
    let root = repository()?;
    let read = || Chapter::read(root.path(), NAME);
    fs::write(root.path().join("before.rs"), BEFORE.replace("number + 1", "number +  1"))?;
    let failure = quotes::compare(&read()?, root.path()).err().ok_or("one space was not found")?;
    let failure = failure.to_string();
    for said in ["-    number + 1\n+    number +  1", "REWRITE=1", "chapters/fixture.md:68"] {
        ensure!(failure.contains(said), "no {said:?} in: {failure}");
    }

    quotes::rewrite(&read()?, root.path())?;
    quotes::compare(&read()?, root.path())?;
    let expected = FIXTURE.replace("number + 1", "number +  1");
    ensure!(read()?.text == expected, "not only the quotes were written: {}", read()?.text);

    // What has no source any more stays, and is still a fault.
    fs::write(root.path().join("before.rs"), BEFORE.replace("fn serve", "fn answer"))?;
    let rewritten = quotes::rewrite(&read()?, root.path())?;
    ensure!(rewritten.text == expected, "a block without its source was written");
    ensure!(quotes::compare(&rewritten, root.path()).is_err(), "a missing item was not found");
    Ok(())
}

fn transcripts_are_compared() -> Result<(), Failure> {
    let root = repository()?;
    find(root.path(), &TRANSCRIPTS, |chapter| {
        let replayed = Script::of(chapter)?.replay()?.to_string();
        let expected = "11 commands and 4 blocks of a server replayed, 1 not";
        ensure!(replayed == expected, "{replayed}");
        let made = workspace().join("made-by-a-command.txt");
        ensure!(!made.exists(), "a command has left a file in the repository");
        Ok(())
    })
}

fn nothing_is_left() -> Result<(), Failure> {
    // A name that nobody else has on a command line.
    let folder = tempfile::tempdir()?;
    let marker = folder.path().display().to_string();
    fs::write(folder.path().join("file"), "")?;
    let text = LEAVES_MUCH.replace("FOLDER", &marker);
    let chapter = Chapter::parse(workspace().join(NAME), NAME, text)?;
    let failure = Script::of(&chapter)?.replay().err().ok_or("the lie was not found")?;
    ensure!(failure.to_string().contains("+something else"), "{failure}");
    for entry in fs::read_dir("/proc")? {
        let words = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        ensure!(!words.contains(&marker), "still there: {words}");
    }
    Ok(())
}

fn links_are_followed() -> Result<(), Failure> {
    let root = repository()?;
    find(root.path(), &LINKS, |chapter| {
        let page = Chapter::parse(chapter.path.clone(), NAME, chapter.text.clone())?;
        fs::write(&page.path, &page.text)?;
        links::follow(&[page], root.path()).map(|_| ())
    })
}

/// All exercises are offered in their chapters, 04b in the fixture.
fn offers_are_compared() -> Result<(), Failure> {
    let mut others = Vec::new();
    let all = Exercise::all(&workspace().join("exercises"))?;
    for known in all.into_iter().filter(|exercise| exercise.id != "04b") {
        let text = format!(
            "- **{0}**, *{1}* ({2} minutes): an offer. `cargo run -p check -- {0}`\n",
            known.id, known.title, known.minutes
        );
        others.push((known.chapter, text));
    }
    find(workspace(), &OFFERS, |chapter| {
        let parse = |(name, text): &(String, String)| {
            Chapter::parse(workspace().join(name), name, text.clone())
        };
        let mut chapters: Vec<Chapter> = others.iter().map(parse).collect::<Result<_, _>>()?;
        let fixture = ("chapters/04-fork.md".to_owned(), chapter.text.clone());
        chapters.push(parse(&fixture)?);
        exercises::compare(&chapters, workspace())
    })
}

fn contents_are_compared() -> Result<(), Failure> {
    find_in(PAGES, &CONTENTS, |text| {
        let mut pages = Vec::new();
        for page in text.split("=== ").skip(1) {
            let (name, text) = page.split_once('\n').ok_or("a page without text")?;
            let name = format!("chapters/{name}");
            pages.push(Chapter::parse(workspace().join(&name), &name, text.to_owned())?);
        }
        let summary = pages.remove(0);
        links::compare_contents(&summary, &pages)?;
        let glossary = pages.last().ok_or("no pages")?;
        links::compare_words(glossary, &pages).map(|_| ())
    })
}
