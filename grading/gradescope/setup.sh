#!/usr/bin/env bash
# Gradescope runs this once, as root, when it makes the image. AUTOGRADER is only set where there is no Gradescope.
set -euo pipefail
base=${AUTOGRADER:-/autograder}
cd "$base/source"

need() {
  if ! command -v "$1" >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$2" >/dev/null
  fi
}
need python3 python3
# For a class in another language, its packages go here: need node nodejs

chmod +x check run_autograder
if ! ./check --version; then
  echo 'check was built for a newer system: choose a newer base image, or make the zip on an older machine' >&2
  exit 1
fi

# Without a command in class.toml the submissions are exercises in Rust, which are built here.
if ! grep -q '^ *command' class.toml; then
  export CARGO_HOME=$base/cargo RUSTUP_HOME=$base/rustup
  need cc gcc
  need curl curl
  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --quiet --no-modify-path --profile minimal
  "$CARGO_HOME/bin/cargo" fetch --quiet --locked --manifest-path course/Cargo.toml
  "$CARGO_HOME/bin/cargo" fetch --quiet --manifest-path course/exercises/Cargo.toml
  chown -R nobody "$CARGO_HOME"
fi
