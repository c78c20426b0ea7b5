#!/usr/bin/env bash
# Ends all that up.sh has started and removes all that it has made, also if it was killed half way.
# Once more does no harm.
set -euo pipefail
# shellcheck source=SCRIPTDIR/names.sh
. "$(dirname "$0")/names.sh"

# Everybody who carries the state folder in the environment, except up.sh if it is the one that calls.
ours() {
  grep -lszxF "MACHINES_STATE=$state" /proc/[0-9]*/environ | cut -d / -f 3 | grep -vxF "$PPID"
}

for _ in {1..200}; do
  mapfile -t pids < <(ours)
  ((${#pids[@]})) || break
  kill -KILL "${pids[@]}" 2> /dev/null || true
  sleep 0.05
done
((${#pids[@]} == 0)) || complain "these processes do not end: ${pids[*]}"

remove_namespaces
# Only a folder that up.sh has made, or one with nothing in it.
if [[ -e $state/made-by-up.sh ]]; then
  rm -rf "$state" || complain 'did root start the machines? Then type sudo machines/down.sh'
elif [[ -e $state ]]; then
  rmdir "$state" 2> /dev/null || complain "$state is not of up.sh"
fi
