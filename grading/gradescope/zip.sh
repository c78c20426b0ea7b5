#!/usr/bin/env bash
# Makes the zip that Gradescope asks for under "Configure autograder":
#
#   grading/gradescope/zip.sh CLASS.toml AUTOGRADER.zip
#
# CLASS.toml is what `check class` reads: the task, and the command that starts a server. A debug build of check is
# enough. Gradescope's base image must have a C library as new as this machine's; setup.sh says if it has not.
set -euo pipefail
if [ $# -ne 2 ] || [ ! -f "$1" ]; then
  echo 'type: grading/gradescope/zip.sh CLASS.toml AUTOGRADER.zip' >&2
  exit 2
fi
class=$(realpath "$1")
zip=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
course=$(cd "$here/../.." && pwd)
cd "$course"

# A test has built it already, and says where.
check=${CHECK:-}
if [ -z "$check" ]; then
  cargo build --locked --package check
  check=${CARGO_TARGET_DIR:-target}/debug/check
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp "$here/setup.sh" "$here/run_autograder" "$stage"
cp "$class" "$stage/class.toml"
cp "$check" "$stage/check"
# What an exercise in Rust is built against: no solution and no server that passes.
mkdir "$stage/course"
tar --create --exclude=solution --exclude=crates/check/servers --exclude=target --exclude=__pycache__ \
  Cargo.toml Cargo.lock .cargo crates demo exercises tests | tar --extract --directory "$stage/course"

rm -f "$zip"
cd "$stage"
python3 -m zipfile --create "$zip" setup.sh run_autograder class.toml check course
echo "$zip"
