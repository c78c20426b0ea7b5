# What up.sh and down.sh must agree on; both read this file.
# shellcheck shell=bash disable=SC2034
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$(realpath -m "${STATE:-$here/../target/machines}")
# The names of network namespaces are known in the whole system. So they are made from the folder's.
prefix=step09-$(cksum <<< "$state" | cut -d ' ' -f 1)
# On Debian a user's PATH lacks these, and HAProxy and ip are there.
PATH=$PATH:/usr/sbin:/sbin

# One line about what is wrong.
complain() {
  printf '%s: %s\n' "machines/${0##*/}" "$1" >&2
  exit 2
}

remove_namespaces() {
  local path
  for path in "/run/netns/$prefix"-*; do
    [[ ! -e $path ]] || ip netns del "${path##*/}"
  done
}
