//! The checker is checked: right servers pass, each wrong one is caught by the check made for it, and
//! whatever happens no process is left.
//!
//! `REPEAT=20 cargo test -p tests --test check --test exercises` asks for every verdict twenty times.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use check::exercises::Exercise;
use check::report::Report;
use check::{Failure, STEPS, wait_until};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Verdict, check_command, ensure, repeatedly, verdict, verdict_with, workspace};

const PATIENCE: Duration = Duration::from_secs(120);

type Outcome = Result<(), Failure>;

/// A wrong server, the task it fails, the check made for it, and others that its mistake cannot pass. A name
/// with an ending is that of a right server, which is wrong for this task.
type Wrong = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const WRONG: [Wrong; 35] = [
    ("two_thread_pool", "step05", "sixty-four clients at once", &["the last to come can be the first to be answered", "a thread for each client, in one process"]),
    ("one_after_another", "step05", "a silent client stops nobody", &["a client that sends a byte at a time stops nobody", "the last to come can be the first to be answered", "a slow reader stops nobody", "sixty-four clients at once", "a thread for each client, in one process"]),
    ("extra_byte", "step05", "files arrive byte for byte", &["Content-Length counts bytes, not characters", "HEAD is the head without the body", "a big file arrives whole at a slow reader"]),
    ("trailing_byte", "step05", "files arrive byte for byte", &["Content-Length is the length of the body", "Content-Length counts bytes, not characters", "HEAD is the head without the body", "a big file arrives whole at a slow reader"]),
    ("length_one_short", "step05", "Content-Length is the length of the body", &["Content-Length counts bytes, not characters"]),
    ("characters", "step05", "Content-Length counts bytes, not characters", &[]),
    ("leaked_descriptor", "step05", "no descriptor is left behind", &[]),
    ("unreaped_child", "step04", "no zombie is left behind", &[]),
    ("parents_copy", "step04", "no descriptor is left behind", &[]),
    ("dot_dot", "step03", "../ does not lead out of the folder", &["a percent-encoded target is decoded"]),
    ("encoded_dot_dot", "step03", "%2e%2e does not lead out of the folder", &[]),
    ("always_200", "step03", "what is not there is 404", &["../ does not lead out of the folder", "%2e%2e does not lead out of the folder"]),
    ("left_open", "step05", "the connection ends after Connection: close", &[]),
    ("wrong_order", "step08", "pipelined requests are all answered, in order", &[]),
    ("first_of_two", "step08", "pipelined requests are all answered, in order", &[]),
    ("head_with_body", "step03", "HEAD is the head without the body", &[]),
    ("no_type", "step03", "Content-Type fits the file", &[]),
    ("text_mode", "step03", "files arrive byte for byte", &["a big file arrives whole at a slow reader"]),
    ("one_read", "step03", "a request in pieces is answered", &["a long request is answered"]),
    ("one_write", "step05", "a big file arrives whole at a slow reader", &[]),
    ("fragile", "step05", "a malformed request is refused and ends nobody", &[]),
    ("spinning", "step09", "no processor time is used while nothing happens", &[]),
    ("hard_coded", "step05", "files arrive byte for byte", &["Content-Length counts bytes, not characters", "Content-Type fits the file", "what is not there is 404", "HEAD is the head without the body", "a malformed request is refused and ends nobody", "an endless request line is refused and ends nobody", "../ does not lead out of the folder", "%2e%2e does not lead out of the folder", "a big file arrives whole at a slow reader"]),
    ("prefix", "step03", "../ does not lead out of the folder", &["%2e%2e does not lead out of the folder"]),
    ("no_decoding", "step03", "a percent-encoded target is decoded", &[]),
    ("silent_refusal", "step03", "a malformed request is refused and ends nobody", &[]),
    ("sleeping_loop", "step09", "answers do not wait for each other", &[]),
    ("two_processes", "step09", "one thread serves all", &[]),
    ("eight_threads", "step05", "sixty-four clients at once", &[]),
    ("reaps_late", "04b", "no zombie waits for the next client", &[]),
    ("reaps_awake", "04b", "no zombie waits for the next client", &[]),
    ("loop.mjs", "step05", "a thread for each client, in one process", &[]),
    ("fork.py", "step05", "a thread for each client, in one process", &[]),
    ("threads.py", "step04", "a process for each client", &[]),
    ("threads.py", "step08", "two requests on one connection", &["pipelined requests are all answered, in order", "a client between two requests stops nobody", "one thread serves all", "the connection ends after Connection: close"]),
];

/// A right server, the tasks it passes, and with which option.
const RIGHT: [(&str, &[&str], &[&str]); 11] = [
    ("threads.py", &["step05"], &[]),
    ("http_server.py", &["step05"], &[]),
    ("fork.py", &["step04"], &[]),
    ("one_after_another.py", &["step03"], &[]),
    ("selector.py", &["step08", "step09"], &[]),
    ("threads.c", &["step05"], &[]),
    ("threads.rs", &["step05"], &[]),
    ("threads.go", &["step05"], &[]),
    ("loop.mjs", &["step09"], &[]),
    ("loop.mjs", &["step08"], &["--any-model"]),
    ("keeping_threads.py", &["step08", "step09"], &["--any-model"]),
];

/// A server that would cost its checker something or has nothing to be graded, a task, a check that it fails,
/// and words that the verdict has.
#[rustfmt::skip]
const HOSTILE: [(&str, &str, &str, &str); 8] = [
    ("endless", "step02", "the front page is 200", "the answer goes on and on"),
    ("endless_behind", "step02", "what is not there is 404", "the answer goes on and on"),
    ("endless_head", "step02", "what is not there is 404", "the head of the answer does not end"),
    ("dripping", "step02", "what is not there is 404", "a few bytes and sleeps, again and again"),
    ("huge_length", "step02", "what is not there is 404", "stands where the length of the body belongs"),
    ("no_head", "step02", "the front page is 200", "does not begin with a status line"),
    ("bare_line_feeds", "step02", "the front page is 200", "lines end with"),
    ("talkative", "step02", "the front page is 200", "the moon is full"),
];

/// A server with which no check can be made, and the words that say why.
const UNREACHABLE: [(&str, &str); 2] =
    [("for_others", "it listens on 127.0.0.2:"), ("background", "it went into the background")];

/// As many points of a hundred has at most who misses what the step is about.
const POINTS: [(&str, &str, usize); 3] =
    [("hard_coded", "step05", 5), ("one_after_another", "step05", 30), ("threads.py", "step08", 5)];

fn main() {
    let arguments = tests::arguments(16);
    let tools = ["python3", "node", "cc", "go"];
    let missing: Vec<&str> = tools.into_iter().filter(|tool| !is_there(tool)).collect();
    let mut trials = Vec::new();
    let mut add = |name: String, run: Box<dyn FnOnce() -> Outcome + Send>| {
        let is_missing = missing.iter().any(|tool| name.contains(&format!("(needs {tool})")));
        let run = move || run().map_err(|error| Failed::from(error.to_string()));
        trials.push(Trial::test(name, run).with_ignored_flag(is_missing));
    };
    // First those that wait the longest, one of them a minute. The others have finished by then.
    for (name, run) in OTHERS {
        add(name.to_owned(), Box::new(run));
    }
    for step in STEPS {
        add(
            format!("{}: passes its core checks", step.name),
            Box::new(move || repeatedly(|| passes(step.short(), &[], "core"))),
        );
    }
    for step in STEPS.into_iter().filter(|step| step.number() >= "03") {
        add(
            format!("{}: passes its strict checks", step.name),
            Box::new(move || repeatedly(|| passes(step.short(), &[], "strict"))),
        );
    }
    for (name, tasks, options) in RIGHT {
        for task in tasks {
            let words = [&[""], options].concat().join(" ");
            add(
                format!("{task}{words}: right server {name} passes{}", needs(name)),
                Box::new(move || {
                    repeatedly(|| passes_with(task, &server("right", name)?, options))
                }),
            );
        }
    }
    for (name, task, made_for, also) in WRONG {
        add(
            format!("{task}: wrong server {name} is caught{}", needs(name)),
            Box::new(move || repeatedly(|| is_caught(name, task, made_for, also))),
        );
    }
    for (name, task, check, words) in HOSTILE {
        add(
            format!("{task}: hostile server {name} is told what it does (needs python3)"),
            Box::new(move || repeatedly(|| is_told(name, task, check, words))),
        );
    }
    for (name, words) in UNREACHABLE {
        add(
            format!("step05: with server {name} no check can be made (needs python3)"),
            Box::new(move || cannot_be_checked(name, words)),
        );
    }
    libtest_mimic::run(&arguments, tests::where_possible(trials)).exit();
}

/// The words that start Python without what a site has installed, and the program itself instead of a
/// script that looks for it: some hundred servers are started.
fn interpreter() -> [String; 2] {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let said = asked.map(|output| text(&output.stdout).trim().to_owned()).unwrap_or_default();
        if said.is_empty() { "python3".to_owned() } else { said }
    });
    [program.clone(), "-S".to_owned()]
}

/// The words that start one of our servers in Python.
fn python(kind: &str, name: &str) -> Vec<String> {
    let file = workspace().join(format!("crates/check/servers/{kind}/{name}.py"));
    [&interpreter()[..], &words(&file)].concat()
}

/// What follows an interpreter, or a program alone.
fn words(file: &Path) -> [String; 5] {
    [&file.to_string_lossy(), "--port", "{port}", "--root", "{root}"].map(str::to_owned)
}

/// Whether a program of this name can be started.
fn is_there(tool: &str) -> bool {
    let asks = if tool == "go" { "version" } else { "--version" };
    Command::new(tool).arg(asks).output().is_ok_and(|output| output.status.success())
}

/// What must be installed for a server, as an addition to the name of its test.
fn needs(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("py", |(_, ending)| ending) {
        "py" => " (needs python3)",
        "mjs" => " (needs node)",
        "c" => " (needs cc)",
        "go" => " (needs go)",
        // Who can build this test has rustc.
        _ => "",
    }
}

/// The words that start a server in any language. It is compiled if need be.
fn server(kind: &str, name: &str) -> Result<Vec<String>, Failure> {
    let Some((stem, ending)) = name.rsplit_once('.') else { return Ok(python(kind, name)) };
    let source = workspace().join(format!("crates/check/servers/{kind}/{name}"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{stem}-{ending}"));
    let mut compiler = match ending {
        "py" => return Ok(python(kind, stem)),
        "mjs" => return Ok([&["node".to_owned()][..], &words(&source)].concat()),
        "c" => Command::new("cc"),
        "go" => Command::new("go"),
        _ => Command::new("rustc"),
    };
    compiler.args(match ending {
        "c" => &["-O1", "-pthread", "-o"][..],
        "go" => &["build", "-o"],
        _ => &["--edition", "2024", "-o"],
    });
    let output = compiler.arg(&program).arg(&source).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{name}: {}", text(&output.stderr));
    Ok(words(&program).into())
}

fn passes(task: &str, server: &[String], level: &str) -> Outcome {
    passes_with(task, server, &["--level", level])
}

fn passes_with(task: &str, server: &[String], options: &[&str]) -> Outcome {
    let Verdict { failed, report, .. } = verdict_with(task, server, options)?;
    ensure!(failed.is_empty(), "{task} fails {failed:?}: {report:#}");
    Ok(())
}

/// It fails the check, in these words, and costs nobody time or memory.
fn is_told(name: &str, task: &str, check: &str, words: &str) -> Outcome {
    let verdict = verdict(task, &python("wrong", name), "core")?;
    verdict.is_explained()?;
    let failure = &verdict.check(check)?["failure"];
    ensure!(failure.to_string().contains(words), "{name}: {failure:#}");
    Ok(())
}

fn cannot_be_checked(name: &str, words: &str) -> Outcome {
    let output = check_command()?.args(["step05", "--"]).args(python("wrong", name)).output()?;
    ensure!(output.status.code() == Some(2) && text(&output.stderr).contains(words), "{output:?}");
    Ok(())
}

fn is_caught(name: &str, task: &str, made_for: &str, also: &[&str]) -> Outcome {
    let kind = if name.contains('.') { "right" } else { "wrong" };
    let verdict = verdict(task, &server(kind, name)?, "core")?;
    verdict.is_explained()?;
    let Verdict { failed, report } = verdict;
    if let Some((.., most)) = POINTS.iter().find(|row| (row.0, row.1) == (name, task)) {
        let (points, all) = serde_json::from_value::<Report>(report.clone())?.total();
        ensure!(points * 100 <= most * all, "{name} gets {points} of {all} points: {report:#}");
    }
    ensure!(failed.contains(made_for), "{name} is not caught by {made_for:?}, only by {failed:?}");
    let unexpected: BTreeSet<&String> = failed
        .iter()
        .filter(|failed| *failed != made_for && !also.contains(&failed.as_str()))
        .collect();
    ensure!(unexpected.is_empty(), "{name} fails {unexpected:?} too: {report:#}");
    Ok(())
}

type Other = (&'static str, fn() -> Outcome);

const OTHERS: [Other; 21] = [
    ("starters are built where there are no solutions", without_solutions),
    ("what cannot be built is not said to be wrong code", || {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = [\"nothing\"]\n")?;
        let manifest = folder.path().join("Cargo.toml");
        let why = check::cargo::program(&manifest, "nothing", Stdio::piped());
        let why = why.err().ok_or("it was built")?.to_string();
        ensure!(why.contains("cannot be built") && !why.contains("compile"), "{why}");
        Ok(())
    }),
    ("every wrong server has a row", every_wrong_server_has_a_row),
    ("a failure tells all that a student needs (needs python3)", || {
        let verdict = verdict("step05", &python("wrong", "two_thread_pool"), "core")?;
        verdict.is_explained()?;
        let check = verdict.check("sixty-four clients at once")?;
        let failure = &check["failure"];
        let timeline = failure["timeline"].to_string();
        ensure!(timeline.contains("client 64") && timeline.contains("NOTHING"), "{timeline}");
        ensure!(failure["read"] == "chapters/05-threads.md, \"How it works\"", "{failure:#}");
        Ok(())
    }),
    ("step01: every check tells why it failed (needs python3)", || is_hung_up_on("step01", "core")),
    ("step05: every check tells why it failed (needs python3)", || is_hung_up_on("step05", "core")),
    ("step07: every check tells why it failed (needs python3)", || is_hung_up_on("step07", "core")),
    ("step08: every check tells why it failed (needs python3)", || is_hung_up_on("step08", "core")),
    ("step02: every case tells why it failed (needs python3)", || {
        is_hung_up_on("step02", "strict")
    }),
    ("the last words of a server that ends are told (needs python3)", || {
        let verdict = verdict("step05", &python("wrong", "fragile"), "core")?;
        let check = verdict.check("a malformed request is refused and ends nobody")?;
        let cause = check["failure"]["cause"].as_str().unwrap_or_default();
        ensure!(cause == "the server has ended (exit status: 3). It printed nothing", "{check:#}");
        Ok(())
    }),
    ("the caret stands below the first wrong byte (needs python3)", || {
        let verdict = verdict("step05", &python("wrong", "extra_byte"), "core")?;
        let came = &verdict.check("files arrive byte for byte")?["failure"]["came"];
        let lines: Vec<&str> =
            came.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let shows = lines.windows(2).find_map(|pair| Some((pair[0], pair[1].find('^')?)));
        let (bytes, caret) = shows.ok_or_else(|| format!("no caret: {came:#}"))?;
        ensure!(bytes[caret..].starts_with("\\n"), "{came:#}");
        Ok(())
    }),
    ("a seed makes the same site again", || {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let mut roots = Vec::new();
        for folder in &folders {
            let output =
                check_command()?.arg("site").arg(folder.path()).args(["--seed", "42"]).output()?;
            ensure!(output.status.success(), "{output:?}");
            roots.push(fs::read(folder.path().join("site/index.html"))?);
        }
        ensure!(roots[0] == roots[1], "two sites for one seed");
        let run = || -> Result<String, Failure> {
            Ok(text(&check_command()?.args(["step02", "--seed", "42"]).output()?.stdout))
        };
        ensure!(run()?.contains("--seed 42"), "the seed is not printed");
        Ok(())
    }),
    ("--list names every task and check", || {
        let list = text(&check_command()?.arg("--list").output()?.stdout);
        for step in STEPS {
            ensure!(list.contains(step.short()), "no {}", step.name);
        }
        for exercise in Exercise::all(&workspace().join("exercises"))? {
            let (id, own) = (&exercise.id, &exercise.check);
            ensure!(list.contains(id) && list.contains(own), "no {exercise:?}");
        }
        Ok(())
    }),
    ("a task has a name and short ones", || {
        for name in ["step01", "step1", "01", "1", "STEP01", "step01-by-hand"] {
            let output = check_command()?.args([name, "--format", "json"]).output()?;
            let report: Value = serde_json::from_slice(&output.stdout)?;
            ensure!(report["task"] == "step01", "{name}: {output:?}");
        }
        for name in ["05a", "5a", "05A", "exercise-05a"] {
            let target = tempfile::tempdir()?;
            let mut command = check_command()?;
            let output =
                command.env("CARGO_TARGET_DIR", target.path()).args([name, "--hint"]).output()?;
            ensure!(text(&output.stdout).starts_with("hint 1 of 3"), "{name}: {output:?}");
        }
        Ok(())
    }),
    ("JSON, JUnit and Gradescope's form can be read, and say the same", formats),
    ("what cannot be run is one line and status 2", || {
        for wrong in [
            &["step13"][..],
            &[],
            &["--nonsense"],
            &["step05", "--level", "soft"],
            &["step05", "--format", "xml"],
            &["step05", "--seed", "soon"],
            &["step05", "--hint"],
            &["step05", "--", "true"],
            &["step05", "--", "true", "{port}"],
            &["step05", "--", "true", "{port}", "{root}"],
            &["step05", "--", "/no/such/program", "{port}", "{root}"],
            &["class", "/no/such/folder", "--out", "/tmp/never"],
            &["class", "/tmp"],
            &["class", "demo", "--out", "demo"],
            &["step05", "python3", "server.py"],
            &["site", "README.md", "--seed", "3"],
            &["site", "demo", "--seed", "3"],
            &["--list", "--format", "json"],
            &["--list", "step05"],
            &["05a", "--hint", "--format", "json"],
        ] {
            let output = check_command()?.args(wrong).output()?;
            let error = text(&output.stderr);
            ensure!(output.status.code() == Some(2), "{wrong:?}: {output:?}");
            ensure!(
                error.lines().count() == 1 && error.starts_with("check: "),
                "{wrong:?}: {error}"
            );
        }
        Ok(())
    }),
    ("the exit status is 0 when all passed and 1 when some failed (needs python3)", || {
        let run = |server: &[String]| -> Result<Output, Failure> {
            Ok(check_command()?.args(["step03", "--"]).args(server).output()?)
        };
        let right = run(&python("right", "one_after_another"))?;
        let wrong = run(&python("wrong", "no_type"))?;
        ensure!(right.status.code() == Some(0), "{right:?}");
        ensure!(wrong.status.code() == Some(1), "{wrong:?}");
        ensure!(
            text(&wrong.stdout).contains("FAIL wire         Content-Type fits the file"),
            "{wrong:?}"
        );
        Ok(())
    }),
    ("colour only where it is wanted", || {
        let run = |name: &str, value: &str| -> Result<String, Failure> {
            let mut command = check_command()?;
            command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env(name, value);
            Ok(text(&command.arg("step01").output()?.stdout))
        };
        ensure!(!run("NO_COLOR", "1")?.contains('\u{1b}'), "colour in a pipe");
        ensure!(run("CLICOLOR_FORCE", "1")?.contains('\u{1b}'), "no colour where it is forced");
        Ok(())
    }),
    ("a process that hides from its group is ended too (needs python3)", || {
        let seconds = format!("864{:05}", std::process::id() % 100_000);
        let server = python(".", "leaves_a_daemon");
        let output = check_command()?
            .args(["step05", "--"])
            .args(&server)
            .env("SECONDS_TO_SLEEP", &seconds)
            .output()?;
        ensure!(output.status.success(), "{}", text(&output.stdout));
        ensure!(processes_with(&seconds)?.is_empty(), "the daemon is still there");
        Ok(())
    }),
    ("Ctrl-C ends the server too (needs python3)", || {
        let marker = format!("marker-{}", std::process::id());
        let mut server = python("wrong", "one_after_another");
        server.extend(["--root".to_owned(), marker.clone()]);
        let mut checker =
            check_command()?.args(["step05", "--"]).args(&server).stdout(Stdio::null()).spawn()?;
        let id = checker.id();
        wait_until("the server runs", PATIENCE, || {
            processes_with(&marker).is_ok_and(|found| found.iter().any(|pid| *pid != id))
        })?;
        kill(Pid::from_raw(id as i32), Signal::SIGINT)?;
        let status = wait_for_end(&mut checker)?;
        ensure!(status == Some(130), "status {status:?}");
        ensure!(processes_with(&marker)?.is_empty(), "the server is still there");
        let prefix = format!("check-{id}-");
        let mut folders = fs::read_dir(std::env::temp_dir())?.flatten();
        let left = folders.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        ensure!(left.is_none(), "{left:?} is still there");
        Ok(())
    }),
    ("--watch checks again when a file changes (needs python3)", watches),
];

/// As a teacher hands them out: cargo must find every starter.
fn without_solutions() -> Outcome {
    let folder = tempfile::tempdir()?;
    for name in ["crates", "tests", "Cargo.toml"] {
        symlink(workspace().canonicalize()?.join(name), folder.path().join(name))?;
    }
    let copy = folder.path().join("exercises");
    let exercises = Exercise::all(&workspace().join("exercises"))?;
    for exercise in &exercises {
        let ours = exercise.folder.canonicalize()?;
        let theirs = copy.join(ours.file_name().ok_or("no name")?);
        fs::create_dir_all(&theirs)?;
        symlink(ours.join("starter"), theirs.join("starter"))?;
    }
    fs::copy(workspace().join("exercises/Cargo.toml"), copy.join("Cargo.toml"))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(&copy);
    let output = cargo.output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().map_or(0, Vec::len);
    ensure!(packages == exercises.len(), "{packages} packages");
    Ok(())
}

fn every_wrong_server_has_a_row() -> Outcome {
    let folder = workspace().join("crates/check/servers/wrong");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_module = path.extension().is_some_and(|extension| extension == "py");
        let mut rows = WRONG.iter().map(|row| row.0).chain(HOSTILE.iter().map(|row| row.0));
        let has_row = rows.any(|row| row == name) || UNREACHABLE.iter().any(|row| row.0 == name);
        ensure!(!is_module || has_row, "{name} has no row");
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The processes that have a word in their command line.
fn processes_with(word: &str) -> Result<Vec<u32>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Ok(pid) = entry.file_name().to_string_lossy().parse()
            && text(&line).contains(word)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn wait_for_end(child: &mut Child) -> Result<Option<i32>, Failure> {
    let mut status = None;
    wait_until("it ends", PATIENCE, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    })?;
    Ok(status.and_then(|status| status.code()))
}

fn formats() -> Outcome {
    let run = |format: &str| -> Result<String, Failure> {
        Ok(text(&check_command()?.args(["step02", "--format", format]).output()?.stdout))
    };
    let json: Value = serde_json::from_str(&run("json")?)?;
    let checks = json["checks"].as_array().ok_or("no checks")?.len();
    ensure!(checks > 10 && json["passed"] == checks && json["failed"] == 0, "{json:#}");

    let junit = run("junit")?;
    let suites = quick_junit::Report::deserialize_from_str(&junit)?.test_suites;
    ensure!(suites.len() == 1 && suites[0].test_cases.len() == checks, "{junit}");

    // A program that reads the result gets one also if no check could be made.
    let output = check_command()?
        .args(["step02", "--format", "json", "--", "/no/such/program", "{port}"])
        .output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(2) && json["failed"] == 1, "{output:?}");

    let gradescope: Value = serde_json::from_str(&run("gradescope")?)?;
    let tests = gradescope["tests"].as_array().ok_or("no tests")?;
    ensure!(tests.len() == checks, "{gradescope:#}");
    ensure!(
        tests.iter().all(|test| test["score"] == 1 && test["max_score"] == 1),
        "{gradescope:#}"
    );
    Ok(())
}

/// The server lies in the current folder, or elsewhere.
fn watches() -> Outcome {
    let folder = tempfile::tempdir()?;
    let elsewhere = tempfile::tempdir()?;
    watches_from(folder.path(), folder.path())?;
    watches_from(folder.path(), elsewhere.path())
}

fn watches_from(folder: &Path, current: &Path) -> Outcome {
    for name in ["right/threads.py", "right/one_after_another.py"] {
        let source = workspace().join("crates/check/servers").join(name);
        let target = folder.join(Path::new(name).file_name().unwrap_or_default());
        fs::copy(source, target)?;
    }
    let file = folder.join("one_after_another.py");
    let mut checker = check_command()?
        .args(["step03", "--watch", "--", "python3"])
        .arg(&file)
        .args(["--port", "{port}", "--root", "{root}"])
        .current_dir(current)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = checker.stderr.take().ok_or("no stderr")?;
    let stdout = checker.stdout.take().ok_or("no stdout")?;
    let printed = std::thread::spawn(move || {
        let mut all = String::new();
        let _ = BufReader::new(stdout).read_to_string(&mut all);
        all
    });
    let mut lines = BufReader::new(stderr).lines();
    let mut waits =
        || lines.any(|line| line.is_ok_and(|line| line.contains("waiting for a change")));
    ensure!(waits(), "the first check did not end");
    fs::write(&file, fs::read_to_string(&file)? + "\n# changed\n")?;
    ensure!(waits(), "the second check did not end");
    kill(Pid::from_raw(checker.id() as i32), Signal::SIGINT)?;
    ensure!(wait_for_end(&mut checker)? == Some(130), "not ended by the signal");
    let printed = printed.join().map_err(|_| "the reader panicked")?;
    ensure!(printed.matches("all 21 checks passed").count() == 2, "{printed}");
    Ok(())
}

/// Hangs up on everybody at once.
const HANGS_UP: &str = "\
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[2])), backlog=256)
while True:
    listener.accept()[0].close()
";

/// Whatever a check fails for, it says all that a student needs.
fn is_hung_up_on(task: &str, level: &str) -> Outcome {
    let words = ["-c", HANGS_UP, "--port", "{port}", "--root", "{root}"].map(str::to_owned);
    let verdict = verdict(task, &[&interpreter()[..], &words].concat(), level)?;
    ensure!(verdict.failed.len() > 5, "{:#}", verdict.report);
    verdict.is_explained()
}
