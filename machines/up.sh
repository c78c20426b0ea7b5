#!/usr/bin/env bash
# Step 09 on three machines, and HAProxy in front. For root the machines are network namespaces, with cables to
# a switch. For others, or with --ports, they are three ports of this machine. Chapter 13 says what to try.
#
#   PORT    where HAProxy listens on 127.0.0.1: 8080 if not set; 0 takes a free one
#   STATE   the folder for all that is made: target/machines if not set
#   CONFIG  HAProxy's configuration: machines/haproxy.cfg if not set
set -euo pipefail
# shellcheck source=SCRIPTDIR/names.sh
. "$(dirname "$0")/names.sh"
port=${PORT:-8080} config=$(realpath "${CONFIG:-$here/haproxy.cfg}")
program=${CARGO_TARGET_DIR:-$here/../target}/debug/step09-epoll

# Whoever is started below carries the state folder in its environment, and so does this script. By that
# down.sh knows them, whatever has happened.
if [[ ${MACHINES_STATE:-} != "$state" ]]; then
  [[ $# -eq 0 || $* == --ports ]] || complain "$* is not known; there is --ports and nothing else"
  [[ $port =~ ^[0-9]{1,5}$ ]] || complain "$port is no port; type PORT=9000 machines/up.sh"
  command -v haproxy > /dev/null || complain 'HAProxy is missing; Debian and Ubuntu: sudo apt install haproxy'
  # With sudo there may be no cargo. Then it is what was built before.
  ! command -v cargo > /dev/null || cargo build --quiet -p step09-epoll --manifest-path "$here/../Cargo.toml"
  [[ -x $program ]] || complain 'step 09 is missing; type cargo build -p step09-epoll'
  exec env MACHINES_STATE="$state" "$0" "$@"
fi

mkdir -p "${state%/*}"
mkdir "$state" 2> /dev/null || complain "$state is there: the machines are up, or were; type machines/down.sh"
trap '[[ $? == 0 ]] || env -u MACHINES_STATE "$here/down.sh"' EXIT
trap 'exit 2' HUP INT TERM
: > "$state/made-by-up.sh"
cd "$state"

# Three machines, each with a cable to the switch. HAProxy has a leg there too, and its front in this namespace:
# outside, no interface and no address is added.
make_namespaces() {
  local front=$prefix-front machine number=0
  ip netns add "$front" &&
    ip -n "$front" link add switch type bridge &&
    ip -n "$front" address add 192.0.2.254/24 dev switch &&
    ip -n "$front" link set switch up || return
  for machine in a b c; do
    ip netns add "$prefix-$machine" &&
      ip -n "$front" link add name "$machine" type veth peer name eth0 netns "$prefix-$machine" &&
      ip -n "$front" link set dev "$machine" master switch up &&
      ip -n "$prefix-$machine" address add "192.0.2.$((number += 1))/24" dev eth0 &&
      ip -n "$prefix-$machine" link set eth0 up || return
  done
}

# Starts step 09 with a site of its own as one of the machines, in front of it the words that lead there.
start() {
  local machine=$1 address=$2 leads=("${@:3}")
  mkdir "$machine"
  cp -a "$here/../demo" "$machine/site"
  (
    cd "$machine"
    exec setsid "${leads[@]}" "$program" --bind "${address%:*}" --port "${address#*:}" site < /dev/null > says 2> log
  ) &
  disown
  echo $! > "$machine/pid"
  for _ in {1..200}; do
    if [[ -s $machine/says ]]; then
      grep -o 'http://[^/]*' "$machine/says" | cut -d / -f 3 > "$machine/address"
      return
    fi
    kill -0 $! 2> /dev/null || break
    sleep 0.05
  done
  complain "machine $machine does not start: $(tail -n 1 "$machine/log")"
}

if [[ $EUID == 0 && $* != --ports ]] && make_namespaces 2> errors; then
  form='three machines in network namespaces' through="namespace $prefix-front"
  for number in 1:a 2:b 3:c; do
    start "${number#*:}" "192.0.2.${number%:*}:8080" ip netns exec "$prefix-${number#*:}"
  done
else
  remove_namespaces
  form='three ports of this machine' through=''
  for machine in a b c; do
    start "$machine" 127.0.0.1:0
  done
fi

# For HAProxy: where each machine is, and through which namespace.
A="$(< a/address) $through" B="$(< b/address) $through" C="$(< c/address) $through"
export A B C
# HAProxy takes no port 0. Whether one is free shows when it binds.
mapfile -t ports < <([[ $port == 0 ]] && shuf -i 10000-31999 -n 20 || echo "$port")
for PORT in "${ports[@]}"; do
  export PORT
  # By itself it leaves this session only when its parent has ended already; Ctrl-C could hit it before.
  if setsid haproxy -D -p "$state/haproxy.pid" -f "$config" 5>> haproxy.log > errors 2>&1; then
    echo "$form behind HAProxy, http://127.0.0.1:$PORT/ (machines/down.sh ends all)"
    for machine in a b c; do
      echo "  machine $machine: $(< "$machine/address"), process $(< "$machine/pid")"
    done
    echo "  what HAProxy knows of them: http://127.0.0.1:$PORT/haproxy"
    exit
  fi
  grep -q 'cannot bind' errors || complain "HAProxy does not start: $(grep -m 1 ALERT errors)"
done
complain "port $port is taken; type PORT=9000 machines/up.sh"
