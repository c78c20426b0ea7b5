//! What `check` can do beside checking all: some checks alone, lists, folded failures, the next exercise, and exercises
//! of one's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use check::Failure;
use check::exercises::Exercise;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tests::{as_given_out, check_command, ensure, is_edited, program, workspace};

type Outcome = Result<(), Failure>;
type Test = (&'static str, fn() -> Outcome);

const TESTS: [Test; 10] = [
    ("--only picks a check, a layer or a group", only_picks),
    ("--list --step names what one task asks", lists_one),
    ("a reader who leaves early ends a list without a word", a_reader_leaves),
    ("a failure of each kind is told once, and all are named (needs python3)", folds),
    ("next names the first exercise that has not passed", names_the_next),
    ("next --watch goes on when an exercise passes, and writes that down", goes_on),
    ("new makes an exercise, and its own cases are its checks", makes_new),
    ("a class is graded by an exercise that lies elsewhere (needs python3)", class_elsewhere),
    ("new refuses what would be no exercise", refuses_new),
    ("the server to begin with passes step 02 (needs python3)", own_server),
];

fn main() {
    let arguments = tests::arguments(4);
    let has_python = Command::new("python3").arg("--version").output().is_ok();
    let own = workspace().join("exercises/your-own");
    let mut trials = Vec::new();
    for (name, run) in TESTS {
        let is_missing = name.contains("(needs python3)") && !has_python;
        let is_begun = name.starts_with("the server to begin with") && is_edited(&own);
        let trial =
            Trial::test(name, move || run().map_err(|error| Failed::from(error.to_string())));
        trials.push(trial.with_ignored_flag(is_missing || is_begun));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names of the checks that were made, with their layers.
fn made(arguments: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let output = check_command()?.args(arguments).args(["--format", "json"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().into_iter().flatten();
    Ok(checks.map(|check| (word(check, "name"), word(check, "layer"))).collect())
}

/// That it is one line and status 2.
fn is_refused(output: &Output, about: &str) -> Outcome {
    let error = text(&output.stderr);
    ensure!(output.status.code() == Some(2), "{output:?}");
    ensure!(error.lines().count() == 1 && error.contains(about), "{error}");
    Ok(())
}

fn only_picks() -> Outcome {
    for word in ["what is not there is 404", "not there", "NOT THERE IS"] {
        let made = made(&["step02", "--only", word])?;
        ensure!(made.len() == 1 && made[0].0 == "what is not there is 404", "{word}: {made:?}");
    }
    let layer = made(&["step02", "--only", "robustness"])?;
    ensure!(layer.len() > 3 && layer.iter().all(|(_, layer)| layer == "robustness"), "{layer:?}");
    ensure!(!layer.iter().any(|(name, _)| name == "a thousand resets end nobody"), "{layer:?}");
    let group = made(&["step02", "--only", "headers"])?;
    ensure!(group.len() > 5, "{group:?}");
    ensure!(group.iter().all(|(name, _)| name.starts_with("headers: ")), "{group:?}");
    is_refused(&check_command()?.args(["step02", "--only", "zebra"]).output()?, "zebra")?;
    is_refused(&check_command()?.args(["--list", "--only", "wire"]).output()?, "--step")?;
    is_refused(&check_command()?.args(["--step", "step02"]).output()?, "--list")
}

fn a_reader_leaves() -> Outcome {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = check_command()?.arg("--list").stdout(writer).stderr(Stdio::piped()).output()?;
    ensure!(output.stderr.is_empty(), "{}", text(&output.stderr));
    Ok(())
}

fn lists_one() -> Outcome {
    let list = |more: &[&str]| -> Result<String, Failure> {
        Ok(text(&check_command()?.args(["--list", "--step"]).args(more).output()?.stdout))
    };
    let all = list(&["step02"])?;
    ensure!(all.contains("core     what is not there is 404"), "{all}");
    ensure!(all.contains("cases: --only \"request line\""), "{all}");
    ensure!(!all.contains("files arrive byte for byte"), "step 02 has no files: {all}");
    let made = made(&["step02"])?;
    let listed = all.lines().filter(|line| line.contains(" core ")).count();
    ensure!(listed == made.len(), "{listed} listed, {} made", made.len());
    let cases = list(&["step08", "--only", "keep-alive"])?;
    ensure!(cases.lines().count() > 8 && cases.contains("keep-alive: "), "{cases}");
    let exercise = list(&["03b"])?;
    let own = exercise.lines().find(|line| line.contains("what the exercise is about"));
    ensure!(own.is_some_and(|line| line.contains("a request in pieces is answered")), "{exercise}");
    Ok(())
}

/// Answers everything with 204 and a close.
const ALWAYS_204: &str = "\
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=256)
while True:
    client, _ = listener.accept()
    client.recv(100000)
    client.sendall(b'HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n')
    client.close()
";

fn folds() -> Outcome {
    let arguments = ["step02", "--only", "headers"];
    let server = ["--", "python3", "-S", "-c", ALWAYS_204, "{port}"];
    let run = |format: &str| -> Result<Vec<u8>, Failure> {
        let mut command = check_command()?;
        command.args(arguments).args(["--format", format]).args(server);
        Ok(command.output()?.stdout)
    };
    let report: Value = serde_json::from_slice(&run("json")?)?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    let failed = checks.iter().filter(|check| check["passed"] == false);
    let failed: Vec<&str> = failed.filter_map(|check| check["name"].as_str()).collect();
    let told = text(&run("human")?);
    let in_full = told.matches("what was done").count();
    ensure!(failed.len() > 6 && in_full < failed.len() / 2, "{in_full} in full: {told}");
    for name in &failed {
        ensure!(told.contains(name), "{name} is not named: {told}");
    }
    let sum = format!("{} of {} passed", checks.len() - failed.len(), checks.len());
    ensure!(told.contains(&sum), "no {sum:?}: {told}");
    ensure!(told.contains("more failed as \"headers: "), "{told}");
    Ok(())
}

fn check_for(state: &Path, arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = check_command()?;
    command.env("XDG_STATE_HOME", state).args(arguments);
    Ok(command)
}

fn names_the_next() -> Outcome {
    let state = tempfile::tempdir()?;
    let next = || -> Result<String, Failure> {
        Ok(text(&check_for(state.path(), &["next"])?.output()?.stdout))
    };
    let first = next()?;
    ensure!(first.starts_with("next: 02a, \"A request that does not match\""), "{first}");
    ensure!(first.contains("exercises/02a-unmatched-request/README.md"), "{first}");
    let file = state.path().join("http-step-by-step/passed.txt");
    fs::create_dir_all(file.parent().ok_or("no folder")?)?;
    fs::write(&file, "# a comment\n02a\n03a\n")?;
    ensure!(next()?.starts_with("next: 02b, "), "{}", next()?);
    let all = Exercise::all(&workspace().join("exercises"))?;
    let ids: Vec<&str> = all.iter().map(|exercise| exercise.id.as_str()).collect();
    fs::write(&file, ids.join("\n"))?;
    ensure!(next()?.starts_with("every exercise has passed here"), "{}", next()?);
    Ok(())
}

/// A folder of exercises with one of our own in it.
fn with_new(id: &str, from: &str, exercises: &Path) -> Outcome {
    let mut command = check_command()?;
    command.args(["new", id, "--from", from, "--exercises"]).arg(exercises);
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

fn solve(exercise: &Path) -> Outcome {
    fs::copy(exercise.join("solution/src/main.rs"), exercise.join("starter/src/main.rs"))?;
    Ok(())
}

fn goes_on() -> Outcome {
    let (state, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for id in ["02c", "02d"] {
        with_new(id, "02a", folder.path())?;
        let starter = folder.path().join(id).join("starter/src/main.rs");
        fs::write(starter, as_given_out(&workspace().join(FIRST_STARTER))?)?;
    }
    solve(&folder.path().join("02c"))?;
    let mut command = check_for(state.path(), &["next", "--watch", "--exercises"])?;
    command.arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checker = command.spawn()?;
    let mut errors = BufReader::new(checker.stderr.take().ok_or("no stderr")?).lines();
    let waits = errors.any(|line| line.is_ok_and(|line| line.contains("waiting for a change")));
    ensure!(waits, "02d, which is not solved, is not waited for");
    let passed = fs::read_to_string(state.path().join("http-step-by-step/passed.txt"))?;
    ensure!(passed.starts_with("# ") && passed.ends_with("\n02c\n"), "{passed}");
    solve(&folder.path().join("02d"))?;
    // It ends by itself, and so does what it says.
    let others = errors.count();
    let output = checker.wait_with_output()?;
    let told = text(&output.stdout);
    ensure!(output.status.success(), "{} lines, {told}", others);
    let places = ["next: 02c, ", "next: 02d, ", "every exercise has passed here"]
        .map(|words| told.find(words).ok_or_else(|| format!("no {words:?}: {told}")));
    let [first, second, last] = places;
    ensure!(first? < second.clone()? && second? < last?, "{told}");
    Ok(())
}

fn makes_new() -> Outcome {
    let folder = tempfile::tempdir()?;
    let exercises = folder.path().join("mine");
    with_new("02c", "02a", &exercises)?;
    let all = Exercise::all(&exercises)?;
    ensure!(all.len() == 1 && all[0].id == "02c", "{all:?}");
    for file in ["README.md", "starter/Cargo.toml", "solution/Cargo.toml"] {
        let written = fs::read_to_string(all[0].folder.join(file))?;
        ensure!(written.contains("02c") && !written.contains("02a"), "{file}: {written}");
    }
    let manifest = fs::read_to_string(exercises.join("Cargo.toml"))?;
    ensure!(!manifest.contains("\"../"), "{manifest}");

    // Checks of one's own are data, and the one that the exercise is about may be among them.
    add_cases(&all[0])?;
    let server = program("step02-single-response")?;
    let mut command = check_command()?;
    command.args(["02c", "--format", "json", "--exercises"]).arg(&exercises);
    let output = command.arg("--").arg(&server).args(["--port", "{port}"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    ensure!(checks.len() > 10, "{report:#}");
    let (own, other) = (&checks[0], &checks[1]);
    ensure!(own["name"] == "there is no page" && own["is_own"] == true, "{own:#}");
    ensure!(own["passed"] == false && own["failure"]["read"] == all[0].read(), "{own:#}");
    ensure!(other["name"] == "and says hello" && other["passed"] == true, "{other:#}");
    ensure!(report["failed"] == 1, "{report:#}");
    Ok(())
}

fn add_cases(exercise: &Exercise) -> Outcome {
    let file = exercise.folder.join("exercise.toml");
    let mut lines: Vec<String> = fs::read_to_string(&file)?
        .lines()
        .filter(|line| !line.starts_with("check = "))
        .map(str::to_owned)
        .collect();
    lines.insert(0, "check = \"there is no page\"".to_owned());
    lines.push(CASES.to_owned());
    Ok(fs::write(&file, lines.join("\n"))?)
}

/// Hidden checks: the students have a step, and the teacher an exercise without a starter.
fn class_elsewhere() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (exercises, class) = (folder.path().join("mine"), folder.path().join("class"));
    with_new("02c", "02a", &exercises)?;
    let hidden = Exercise::all(&exercises)?;
    add_cases(&hidden[0])?;
    for part in ["starter", "solution"] {
        fs::remove_dir_all(hidden[0].folder.join(part))?;
    }
    fs::create_dir_all(class.join("ada"))?;
    let server = as_given_out(&workspace().join("exercises/your-own/server.py"))?;
    fs::write(class.join("ada/server.py"), server)?;
    let command = r#"command = ["python3", "server.py", "--port", "{port}"]"#;
    fs::write(class.join("class.toml"), format!("task = \"02c\"\n{command}\n"))?;
    let mut command = check_command()?;
    command.arg("class").arg(&class).arg("--exercises").arg(&exercises);
    let output = command.arg("--out").arg(folder.path().join("report")).output()?;
    let grades = fs::read_to_string(folder.path().join("report/grades.csv"))?;
    ensure!(grades.contains("there is no page,and says hello"), "{output:?}: {grades}");
    // The own check fails, so nothing counts.
    ensure!(grades.contains("\nada,0,"), "{grades}");
    is_refused(
        &check_command()?.args(["02c", "--exercises"]).arg(&exercises).output()?,
        "no starter",
    )
}

/// The first fails, the second passes.
const CASES: &str = r#"
[[case]]
name = "there is no page"
rule = "a test"
send = 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'
answers = ["404"]

[[case]]
name = "and says hello"
rule = "a test"
send = 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'
answers = ["200"]
"#;

const FIRST_STARTER: &str = "exercises/02a-unmatched-request/starter/src/main.rs";

fn refuses_new() -> Outcome {
    let folder = tempfile::tempdir()?;
    for (id, from, about) in [
        ("3d", "03b", "is no id"),
        ("03", "03b", "is no id"),
        ("99a", "03b", "is no id"),
        ("05c", "03b", "begin with an exercise of that step"),
        ("03d", "03z", "there is no exercise 03z"),
    ] {
        let mut command = check_command()?;
        command.args(["new", id, "--from", from, "--exercises"]).arg(folder.path());
        is_refused(&command.output()?, about)?;
    }
    // One that is there stays as it is.
    let output = check_command()?.args(["new", "03c", "--from", "03b"]).output()?;
    is_refused(&output, "03c is there already")
}

fn own_server() -> Outcome {
    let output = check_command()?
        .args(["step02", "--", "python3", "exercises/your-own/server.py", "--port", "{port}"])
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stdout));
    Ok(())
}
