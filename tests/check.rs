//! The checker is checked: right servers pass, each wrong one is caught by the check made for it, and
//! whatever happens no process is left.
//!
//! `REPEAT=20 cargo test -p tests --test check --test exercises` asks for every verdict twenty times.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use check::{Failure, STEPS, wait_until};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Verdict, check_command, ensure, repeatedly, verdict, workspace};

const PATIENCE: Duration = Duration::from_secs(120);

type Outcome = Result<(), Failure>;

/// A wrong server, the task it fails, the check made for it, and others that its mistake cannot pass.
type Wrong = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const WRONG: [Wrong; 23] = [
    ("two_thread_pool", "step05", "sixty-four clients at once", &["the last to come can be the first to be answered", "a thread for each client, in one process"]),
    ("one_after_another", "step05", "a silent client stops nobody", &["a client that sends a byte at a time stops nobody", "the last to come can be the first to be answered", "a slow reader stops nobody", "sixty-four clients at once", "a thread for each client, in one process"]),
    ("extra_byte", "step05", "files arrive byte for byte", &["Content-Length counts bytes, not characters", "HEAD is the head without the body", "a big file arrives whole at a slow reader"]),
    ("trailing_byte", "step05", "files arrive byte for byte", &["Content-Length is the length of the body", "Content-Length counts bytes, not characters", "HEAD is the head without the body", "a big file arrives whole at a slow reader"]),
    ("length_one_short", "step05", "Content-Length is the length of the body", &["Content-Length counts bytes, not characters"]),
    ("characters", "step05", "Content-Length counts bytes, not characters", &[]),
    ("leaked_descriptor", "step05", "no descriptor is left behind", &[]),
    ("unreaped_child", "step04", "no zombie is left behind", &[]),
    ("parents_copy", "step04", "no descriptor is left behind", &[]),
    ("dot_dot", "step03", "../ does not lead out of the folder", &[]),
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
];

/// A right server, and the tasks it passes.
const RIGHT: [(&str, &[&str]); 5] = [
    ("threads", &["step05"]),
    ("http_server", &["step05"]),
    ("fork", &["step04"]),
    ("one_after_another", &["step03"]),
    ("selector", &["step08", "step09"]),
];

fn main() {
    let arguments = tests::arguments(8);
    let is_missing = Command::new("python3").arg("--version").output().is_err();
    let mut trials = Vec::new();
    let mut add = |name: String, run: Box<dyn FnOnce() -> Outcome + Send>| {
        let needs_python = name.contains("(needs python3)");
        let run = move || run().map_err(|error| Failed::from(error.to_string()));
        trials.push(Trial::test(name, run).with_ignored_flag(needs_python && is_missing));
    };
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
    for (name, tasks) in RIGHT {
        for task in tasks {
            add(
                format!("{task}: right server {name} passes (needs python3)"),
                Box::new(move || repeatedly(|| passes(task, &python("right", name), "core"))),
            );
        }
    }
    for (name, task, made_for, also) in WRONG {
        add(
            format!("{task}: wrong server {name} is caught (needs python3)"),
            Box::new(move || repeatedly(|| is_caught(name, task, made_for, also))),
        );
    }
    for (name, run) in OTHERS {
        add(name.to_owned(), Box::new(run));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The words that start one of our servers in Python.
fn python(kind: &str, name: &str) -> Vec<String> {
    let file = workspace().join(format!("crates/check/servers/{kind}/{name}.py"));
    let file = file.to_string_lossy();
    ["python3", &file, "--port", "{port}", "--root", "{root}"].map(str::to_owned).to_vec()
}

fn passes(task: &str, server: &[String], level: &str) -> Outcome {
    let Verdict { failed, report, .. } = verdict(task, server, level)?;
    ensure!(failed.is_empty(), "{task} fails {failed:?}: {report:#}");
    Ok(())
}

fn is_caught(name: &str, task: &str, made_for: &str, also: &[&str]) -> Outcome {
    let verdict = verdict(task, &python("wrong", name), "core")?;
    verdict.is_explained()?;
    let Verdict { failed, report } = verdict;
    ensure!(failed.contains(made_for), "{name} is not caught by {made_for:?}, only by {failed:?}");
    let unexpected: BTreeSet<&String> = failed
        .iter()
        .filter(|failed| *failed != made_for && !also.contains(&failed.as_str()))
        .collect();
    ensure!(unexpected.is_empty(), "{name} fails {unexpected:?} too: {report:#}");
    Ok(())
}

type Other = (&'static str, fn() -> Outcome);

const OTHERS: [Other; 23] = [
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
        for exercise in check::exercises::EXERCISES {
            ensure!(list.contains(exercise.id) && list.contains(exercise.own), "no {exercise:?}");
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
            &["step10"][..],
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
    ("a class: a hang and a crash cost nobody else anything (needs python3)", class),
    ("a submission that takes too long is ended with its server (needs python3)", || {
        let code = "import time\ntime.sleep(86400)\n";
        let folder = folder_of("step05", 2, &[("bob", code)])?;
        let out = tempfile::tempdir()?;
        let output = check_command()?
            .arg("class")
            .arg(folder.path())
            .arg("--out")
            .arg(out.path())
            .output()?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        let grades = fs::read_to_string(out.path().join("grades.csv"))?;
        ensure!(grades.contains("more than 2 seconds: 0 of 26 checks were made"), "{grades}");
        ensure!(processes_in(folder.path())?.is_empty(), "the server is still there");
        Ok(())
    }),
    ("a time limit costs only what was not reached (needs python3)", cut_short),
    ("a class of an exercise in Rust is built and checked", rust_class),
];

fn every_wrong_server_has_a_row() -> Outcome {
    let folder = workspace().join("crates/check/servers/wrong");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_module = path.extension().is_some_and(|extension| extension == "py");
        ensure!(!is_module || WRONG.iter().any(|row| row.0 == name), "{name} has no row");
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

/// The processes that work in a folder or below it.
fn processes_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = folder.canonicalize()?;
    let entries = fs::read_dir("/proc")?.flatten();
    let places = entries.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
    Ok(places.filter(|place| place.starts_with(&folder)).collect())
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
    let mut reader = quick_xml::Reader::from_str(&junit);
    let mut cases = 0;
    loop {
        match reader.read_event()? {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Empty(element) | quick_xml::events::Event::Start(element) => {
                cases += usize::from(element.name().as_ref() == "testcase");
            }
            _ => {}
        }
    }
    ensure!(cases == checks, "{cases} cases in {junit}");

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
    ensure!(printed.matches("all 20 checks passed").count() == 2, "{printed}");
    Ok(())
}

/// A folder of submissions: names of students and their `server.py`. A submission has so many seconds.
fn folder_of(
    task: &str,
    limit: u32,
    students: &[(&str, &str)],
) -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("class.toml"),
        format!(
            "task = \"{task}\"\nlimit = {limit}\n\
             command = [\"python3\", \"server.py\", \"--port\", \"{{port}}\", \"--root\", \"{{root}}\"]\n"
        ),
    )?;
    for (student, code) in students {
        fs::create_dir(folder.path().join(student))?;
        fs::write(folder.path().join(student).join("server.py"), code)?;
    }
    Ok(folder)
}

fn class() -> Outcome {
    let right = fs::read_to_string(workspace().join("crates/check/servers/right/http_server.py"))?;
    // It listens on no port, and would be waited for as long as a compiler may take.
    let hangs = "import time\ntime.sleep(86400)\n";
    let folder = folder_of(
        "step05",
        600,
        &[
            ("ada", right.as_str()),
            ("bob", hangs),
            ("cleo", "raise SystemExit('no server today')\n"),
            (
                "dan <b>",
                "import os\nos.execvp('python3', ['python3', os.environ['WRONG']] + __import__('sys').argv[1:])\n",
            ),
        ],
    )?;
    let out = tempfile::tempdir()?;
    let wrong = workspace().join("crates/check/servers/wrong/no_type.py").canonicalize()?;
    let output = check_command()?
        .arg("class")
        .arg(folder.path())
        .args(["--jobs", "4", "--format", "gradescope", "--out"])
        .arg(out.path())
        .env("WRONG", wrong)
        .output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");

    let mut table = csv::Reader::from_path(out.path().join("grades.csv"))?;
    let rows: Vec<csv::StringRecord> = table.records().collect::<Result<_, _>>()?;
    let points: Vec<(&str, &str, &str)> =
        rows.iter().map(|row| (&row[0], &row[1], &row[2])).collect();
    ensure!(points.len() == 4, "{points:?}");
    ensure!(points[0] == ("ada", "26", "26"), "{points:?}");
    ensure!(points[1].1 == "0" && rows[1][3].contains("after a minute"), "{rows:?}");
    ensure!(points[2].1 == "0" && rows[2][3].contains("no server today"), "{rows:?}");
    ensure!(points[3] == ("dan <b>", "25", "26"), "{points:?}");
    for (student, failures) in [("ada", "failures=\"0\""), ("dan <b>", "failures=\"1\"")] {
        let folder = out.path().join(student);
        let _: Value = serde_json::from_str(&fs::read_to_string(folder.join("report.json"))?)?;
        let results: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("results.json"))?)?;
        ensure!(results["tests"].is_array(), "{results}");
        let junit = fs::read_to_string(folder.join("report.xml"))?;
        ensure!(junit.contains(failures), "{junit}");
    }
    let page = fs::read_to_string(out.path().join("index.html"))?;
    ensure!(page.contains("dan &lt;b&gt;") && !page.contains("<b>"), "{page}");
    let first_failed = page.find("Content-Type fits the file");
    ensure!(first_failed.is_some_and(|at| at < 1500), "what most failed does not come first");
    ensure!(processes_in(folder.path())?.is_empty(), "a server is left");
    Ok(())
}

/// Every check takes longer than it may when nothing is answered, so not all are reached; some are.
fn cut_short() -> Outcome {
    let folder = folder_of("step05", 30, &[("cleo", SILENT)])?;
    let out = tempfile::tempdir()?;
    let output =
        check_command()?.arg("class").arg(folder.path()).arg("--out").arg(out.path()).output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(out.path().join("cleo/report.json"))?)?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    ensure!(checks.len() == 26, "{report:#}");
    ensure!(checks[0]["failure"]["came"][0] == "nothing", "{report:#}");
    ensure!(checks[25]["failure"]["came"][0] == "not reached", "{report:#}");
    Ok(())
}

/// Accepts, and never says a word.
const SILENT: &str = "\
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[2])), backlog=256)
clients = []
while True:
    clients.append(listener.accept())
";

/// Hangs up on everybody at once.
const HANGS_UP: &str = "\
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[2])), backlog=256)
while True:
    listener.accept()[0].close()
";

/// Whatever a check fails for, it says all that a student needs.
fn is_hung_up_on(task: &str, level: &str) -> Outcome {
    let words = ["python3", "-c", HANGS_UP, "--port", "{port}", "--root", "{root}"];
    let verdict = verdict(task, &words.map(str::to_owned), level)?;
    ensure!(verdict.failed.len() > 5, "{:#}", verdict.report);
    verdict.is_explained()
}

fn rust_class() -> Outcome {
    let exercise = check::exercises::Exercise::of("03a").ok_or("no 03a")?;
    let ours = exercise.folder(workspace())?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("class.toml"), "task = \"03a\"\n")?;
    for (student, source) in [("nothing-done", "starter"), ("solved", "solution")] {
        let target = folder.path().join(student).join("src");
        fs::create_dir_all(&target)?;
        fs::copy(ours.join(source).join("src/main.rs"), target.join("main.rs"))?;
    }
    // The whole folder of the exercise, as it was given out.
    let handed_in = folder.path().join("whole").join("03a-outside-the-folder/starter/src");
    fs::create_dir_all(&handed_in)?;
    fs::copy(ours.join("solution/src/main.rs"), handed_in.join("main.rs"))?;
    let broken: PathBuf = folder.path().join("broken/src");
    fs::create_dir_all(&broken)?;
    fs::write(broken.join("main.rs"), "fn main() { this is no Rust }\n")?;
    let out = tempfile::tempdir()?;
    let output =
        check_command()?.arg("class").arg(folder.path()).arg("--out").arg(out.path()).output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let mut table = csv::Reader::from_path(out.path().join("grades.csv"))?;
    let rows: Vec<csv::StringRecord> = table.records().collect::<Result<_, _>>()?;
    ensure!(rows.len() == 4, "{rows:?}");
    ensure!(rows[0][3].contains("does not compile") && &rows[0][1] == "0", "{rows:?}");
    // Nothing is written among what was handed in.
    for place in ["", "solved", "solved/report"] {
        let mut command = check_command()?;
        command.arg("class").arg(folder.path()).arg("--out").arg(folder.path().join(place));
        ensure!(command.output()?.status.code() == Some(2), "{place}");
    }
    // The student needs what the compiler said.
    for file in ["report.json", "report.xml"] {
        let report = fs::read_to_string(out.path().join("broken").join(file))?;
        ensure!(report.contains("main.rs:1:"), "{report}");
    }
    // A starter that is handed in as it was gets nothing, and the note says why.
    ensure!(&rows[1][1] == "0" && rows[1][3].contains("do not count"), "{rows:?}");
    ensure!(rows[2][1] == rows[2][2] && rows[3][1] == rows[3][2], "{rows:?}");
    Ok(())
}
