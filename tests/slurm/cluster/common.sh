# Functions for start.sh, stop.sh and fault.sh, which set STATE before they source this file.
# shellcheck shell=bash
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export SLURM_CONF=$STATE/etc/slurm.conf

die() { echo "${0##*/}: $*" >&2; exit 1; }

cannot() { echo "${0##*/}: $*" >&2; exit 77; } # this machine cannot run a cluster

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit "${1:-0}"; }

is_running() { # is_running PID NAME: alive, not a zombie, with NAME in its command line
  grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null &&
    tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | grep -q "$2"
}

is_up() { # is_up DAEMON: its pid file names a live process
  local pid
  pid=$(cat "$STATE/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && is_running "$pid" "${1%%.*}"
}

wait_for() { # wait_for SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { tail -n 15 "$STATE"/log/*.log >&2; die "timed out waiting for $what"; }
    sleep 0.1
  done
}

end_daemon() { # end_daemon NAME SECONDS: TERM, then KILL
  local pid
  is_up "$1" || { rm -f "$STATE/run/$1.pid"; return 0; }
  pid=$(cat "$STATE/run/$1.pid")
  kill "$pid"
  for _ in $(seq $(($2 * 10))); do is_running "$pid" "${1%%.*}" || break; sleep 0.1; done
  ! is_running "$pid" "${1%%.*}" || kill -9 "$pid"
  rm -f "$STATE/run/$1.pid"
}

processes_with() { # processes_with VARIABLE[=VALUE]: pids whose environment has it, of this cluster
  local folder variables
  for folder in /proc/[0-9]*; do
    [ "${folder#/proc/}" != $$ ] || continue
    variables=$(tr '\0' '\n' 2>/dev/null < "$folder/environ") || continue
    grep -qx "SLURM_CONF=$SLURM_CONF" <<< "$variables" || continue
    if grep -qx "$1\(=.*\)\?" <<< "$variables"; then echo "${folder#/proc/}"; fi
  done
}

stepd_of() { # stepd_of PID: the slurmstepd among its ancestors
  local pid=$1
  while [ "${pid:-1}" -gt 1 ]; do
    if grep -qa '^slurmstepd' "/proc/$pid/cmdline" 2>/dev/null; then echo "$pid"; return; fi
    pid=$(awk '/^PPid:/{print $2}' "/proc/$pid/status" 2>/dev/null) || return 0 # it has just ended
  done
}
