//! Builds the steps and the exercises, as a reader does.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Failure;

/// The workspace: the one around the current folder, or else the one that this program was built in.
pub fn workspace() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let around = here.ancestors().find(|folder| folder.join("crates/check/Cargo.toml").is_file());
    around.unwrap_or(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))).to_owned()
}

/// Builds packages of a workspace and returns their programs by name. What the compiler has to say goes
/// to standard error.
///
/// # Errors
/// There is no cargo, or something does not compile.
pub fn build(manifest: &Path, packages: &[&str]) -> Result<HashMap<String, PathBuf>, Failure> {
    compile(manifest, packages, &[], Stdio::inherit())
}

/// As [`build`], and examples of these packages too.
///
/// # Errors
/// As there.
pub fn build_with_examples(
    manifest: &Path,
    packages: &[&str],
    examples: &[&str],
) -> Result<HashMap<String, PathBuf>, Failure> {
    compile(manifest, packages, examples, Stdio::inherit())
}

fn compile(
    manifest: &Path,
    packages: &[&str],
    examples: &[&str],
    errors: Stdio,
) -> Result<HashMap<String, PathBuf>, Failure> {
    let mut cargo = build_command(manifest, packages);
    if !examples.is_empty() {
        // Otherwise these would be all that is built.
        cargo.arg("--bins");
    }
    for example in examples {
        cargo.args(["--example", example]);
    }
    let output = cargo
        .stdin(Stdio::null())
        .stderr(errors)
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // cargo says this when it has come as far as the compiler.
        let has_compiled = String::from_utf8_lossy(&output.stdout).contains("build-finished");
        let what =
            if has_compiled { "does not compile" } else { "cannot be built: cargo says why" };
        let why = format!("{} {what}\n{said}", packages.join(" "));
        return Err(why.trim_end().into());
    }
    Ok(programs(&String::from_utf8(output.stdout)?))
}

/// The command that builds packages of a workspace. [`programs`] understands what it prints.
pub fn build_command(manifest: &Path, packages: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics", "--manifest-path"]);
    cargo.arg(manifest);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo
}

/// The programs by name of which cargo has said that they are built.
pub fn programs(printed: &str) -> HashMap<String, PathBuf> {
    let mut programs = HashMap::new();
    for line in printed.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(name), Some(program)) =
            (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), program.into());
        }
    }
    programs
}

/// The program of one package. What the compiler has to say goes to `errors`; if that is a pipe, to the
/// error that is returned.
///
/// # Errors
/// As [`build`].
pub fn program(manifest: &Path, package: &str, errors: Stdio) -> Result<PathBuf, Failure> {
    let mut programs = compile(manifest, &[package], &[], errors)?;
    programs.remove(package).ok_or_else(|| format!("{package} is no program").into())
}
