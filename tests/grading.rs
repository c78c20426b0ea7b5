//! What grading elsewhere needs, each script run outside its container, on a clean folder: Gradescope's zip, the workflow
//! for a student's repository, and the container's description.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use check::Failure;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tests::{as_given_out, ensure, program, workspace};

type Outcome = Result<(), Failure>;
type Test = (&'static str, fn() -> Outcome);

const TESTS: [Test; 4] = [
    ("Gradescope: the zip grades a submission (needs python3, tar, setpriv)", gradescope),
    ("Gradescope: what cannot be graded is no verdict (needs python3, tar, setpriv)", no_verdict),
    ("GitHub: a student's repository is checked (needs python3)", github),
    ("the container's description names files that are there", container),
];

fn main() {
    let arguments = tests::arguments(4);
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let missing: Vec<&str> =
        ["python3", "tar", "setpriv"].into_iter().filter(|tool| !has(tool)).collect();
    let mut trials = Vec::new();
    for (name, run) in TESTS {
        let is_missing = missing.iter().any(|tool| name.contains(tool));
        let trial =
            Trial::test(name, move || run().map_err(|error| Failed::from(error.to_string())));
        trials.push(trial.with_ignored_flag(is_missing));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn runs(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(said)
}

/// The server to begin with, as a student's.
fn hand_in(folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let server = as_given_out(&workspace().join("exercises/your-own/server.py"))?;
    Ok(fs::write(folder.join("server.py"), server)?)
}

/// Makes the zip for a class, unpacks it as Gradescope does, and sets it up. Returns the folder in place of
/// /autograder.
fn autograder(class: &str) -> Result<tempfile::TempDir, Failure> {
    let base = tempfile::tempdir()?;
    let (toml, zip) = (base.path().join("class.toml"), base.path().join("autograder.zip"));
    fs::write(&toml, class)?;
    let scripts = workspace().join("grading/gradescope");
    let mut make = Command::new(scripts.join("zip.sh"));
    runs(make.arg(&toml).arg(&zip).env("CHECK", program("check")?))?;
    let source = base.path().join("source");
    runs(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&zip).arg(&source))?;
    let mut setup = Command::new("bash");
    runs(setup.arg(source.join("setup.sh")).env("AUTOGRADER", base.path()))?;
    Ok(base)
}

/// What Gradescope shows of the submission that lies there.
fn graded(base: &Path) -> Result<Value, Failure> {
    let mut run = Command::new("bash");
    runs(run.arg(base.join("source/run_autograder")).env("AUTOGRADER", base))?;
    Ok(serde_json::from_str(&fs::read_to_string(base.join("results/results.json"))?)?)
}

fn gradescope() -> Outcome {
    let base = autograder(
        "task = \"step02\"\ncommand = [\"python3\", \"server.py\", \"--port\", \"{port}\"]\n",
    )?;
    // The course goes with it, and no server that passes.
    let course = base.path().join("source/course");
    ensure!(course.join("exercises/03b-one-read/starter/src/main.rs").is_file(), "no starter");
    ensure!(!course.join("exercises/03b-one-read/solution").exists(), "a solution in the zip");
    ensure!(!course.join("crates/check/servers").exists(), "right servers in the zip");
    hand_in(&base.path().join("submission"))?;
    let result = graded(base.path())?;
    let tests = result["tests"].as_array().ok_or_else(|| format!("no tests: {result:#}"))?;
    ensure!(tests.len() > 10, "{result:#}");
    ensure!(tests.iter().all(|test| test["score"] == test["max_score"]), "{result:#}");
    // And one that does not pass, in the same container.
    fs::write(base.path().join("submission/server.py"), "raise SystemExit('no server')\n")?;
    let result = graded(base.path())?;
    let tests = result["tests"].as_array().ok_or_else(|| format!("no tests: {result:#}"))?;
    ensure!(!tests.is_empty() && tests.iter().all(|test| test["score"] == 0), "{result:#}");
    ensure!(result.to_string().contains("no server"), "{result:#}");
    Ok(())
}

fn no_verdict() -> Outcome {
    let base = autograder("task = \"step02\"\ncommand = [\"true\"]\nnonsense = 1\n")?;
    hand_in(&base.path().join("submission"))?;
    let result = graded(base.path())?;
    let said = result["output"].as_str().unwrap_or_default();
    ensure!(result["score"] == 0 && said.contains("no verdict on your work"), "{result:#}");
    Ok(())
}

fn github() -> Outcome {
    let repository = tempfile::tempdir()?;
    hand_in(repository.path())?;
    let summary = repository.path().join("summary.md");
    let run = |server: &str| -> Result<std::process::Output, Failure> {
        let mut check = Command::new(workspace().canonicalize()?.join("grading/github/check.sh"));
        check.args(["step02", "--", "python3", server, "--port", "{port}"]);
        check.current_dir(repository.path()).env("GITHUB_STEP_SUMMARY", &summary);
        Ok(check.stdin(Stdio::null()).output()?)
    };
    let right = run("server.py")?;
    ensure!(right.status.success(), "{right:?}");
    let page = fs::read_to_string(&summary)?;
    ensure!(page.starts_with("```\n") && page.contains("checks passed"), "{page}");
    fs::write(
        repository.path().join("short.py"),
        fs::read_to_string(repository.path().join("server.py"))?.replace("404 Not", "200 Not"),
    )?;
    let wrong = run("short.py")?;
    ensure!(wrong.status.code() == Some(1), "{wrong:?}");
    ensure!(
        text(&wrong.stdout).contains("FAIL wire         what is not there is 404"),
        "{wrong:?}"
    );
    Ok(())
}

fn container() -> Outcome {
    let folder = workspace().join(".devcontainer");
    let json = fs::read_to_string(folder.join("devcontainer.json"))?;
    let description: Value = serde_json::from_str(&json)?;
    let file = description["build"]["dockerfile"].as_str().ok_or("no Dockerfile")?;
    let docker = fs::read_to_string(folder.join(file))?;
    // One Rust for all who build: the workspace's own.
    let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.ok_or("no rust-version")?.trim_matches('"');
    ensure!(docker.contains(&format!("FROM rust:{version}-")), "{docker}");
    let workflow = fs::read_to_string(workspace().join(".github/workflows/ci.yml"))?;
    ensure!(workflow.contains(&format!("image: rust:{version}-")), "{workflow}");
    ensure!(workflow.contains(".ci/run"), "{workflow}");
    Ok(())
}
