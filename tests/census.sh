#!/usr/bin/env bash
# Counts what pools of this user have left on the machine: names in /dev/shm, and processes of the fork server and the
# workers, zombies included.
#   census.sh record FILE   note what is there before the tests (other programs of the user may use shmpool)
#   census.sh check [FILE]  fail if anything is there that FILE does not list; what is still going away gets five seconds
set -uo pipefail

# One line for each thing that is there. Processes carry their start time, so that a recycled pid is not mistaken.
list() {
  local path status name state uid start
  for path in /dev/shm/shmpool."$UID".*; do
    [[ -e $path ]] && echo "file $path"
  done
  for status in /proc/[0-9]*/status; do
    name='' state='' uid=''
    while read -r key value rest; do
      case $key in
        Name:) name=$value ;;
        State:) state=$value ;;
        Uid:) uid=$value; break ;;
      esac
    done 2>/dev/null <"$status" || continue
    [[ $name == shmpool-* && $uid == "$UID" ]] || continue
    start=$(sed 's/.*) //' "${status%status}stat" 2>/dev/null | cut -d' ' -f20)
    [[ -n $start ]] && echo "process ${status//[!0-9]/} $name started $start state $state"
  done
}

# What is there and was not before; the state of a process may have changed since.
left_behind() {
  local line
  list | while read -r line; do
    grep -qxF -- "${line% state *}" <<<"$before" || echo "$line"
  done
}

case ${1:-} in
  record) list >"$2" ;;
  check)
    before=''
    [[ -n ${2:-} ]] && before=$(sed 's/ state .*//' "$2")
    for ((i = 0; i < 50; ++i)); do
      left=$(left_behind)
      if [[ -z $left ]]; then
        echo "census: nothing left behind"
        exit 0
      fi
      sleep 0.1
    done
    echo "census: left behind:"
    while read -r line; do echo "  $line"; done <<<"$left"
    exit 1
    ;;
  *) echo "usage: census.sh record FILE | check [FILE]" >&2; exit 2 ;;
esac
