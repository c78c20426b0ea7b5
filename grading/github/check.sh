#!/usr/bin/env bash
# Checks the server in the current folder, as `cargo run -p check --` does; for a workflow, whose page then shows the
# words too. From a folder beside the course:
#
#   course/grading/github/check.sh step05 -- python3 server.py --port {port} --root {root}
set -euo pipefail
course=$(cd "$(dirname "$0")/../.." && pwd)
words=$(mktemp)
trap 'rm -f "$words"' EXIT

status=0
cargo run --quiet --locked --manifest-path "$course/Cargo.toml" --package check -- "$@" | tee "$words" || status=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  { echo '```'; cat "$words"; echo '```'; } >>"$GITHUB_STEP_SUMMARY"
fi
exit "$status"
