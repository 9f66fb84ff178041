#!/usr/bin/env bash
# Stop the cluster that start.sh started under STATE_DIR, and no other one.
#
#   stop.sh STATE_DIR [--purge]
#
# Cancels jobs, ends daemons by their pid files, and kills remaining processes of jobs. --purge also
# removes STATE_DIR. Running it again does nothing.
set -uo pipefail

STATE=${1:-}
# shellcheck source=tests/slurm/cluster/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
case $STATE in '') usage 2 ;; -h | --help) usage ;; esac
[ -d "$STATE" ] || exit 0
STATE=$(cd "$STATE" && pwd)
export SLURM_CONF=$STATE/etc/slurm.conf
[ -e "$SLURM_CONF" ] || die "$STATE is not a state directory of start.sh"

queue_is_empty() { [ -z "$(squeue -h -t running,completing 2>/dev/null)" ]; }

if timeout 5 scontrol ping >/dev/null 2>&1; then
  timeout 10 scancel --user=root --state=PENDING 2>/dev/null
  timeout 10 scancel --user=root --signal=KILL --full 2>/dev/null
  for _ in $(seq 30); do queue_is_empty && break; sleep 0.1; done
fi
end_daemon slurmctld 10
for file in "$STATE"/run/slurmd.*.pid; do
  [ ! -e "$file" ] || end_daemon "$(basename "$file" .pid)" 5
done
for pid in $(processes_with SLURM_JOB_ID); do
  stepd=$(stepd_of "$pid")
  kill -9 "$pid" ${stepd:+"$stepd"} 2>/dev/null
done
for pid in $(processes_with SLURM_CONF); do # stopped ones without jobs
  ! is_running "$pid" '^slurmstepd' || kill -9 "$pid" 2>/dev/null
done
end_daemon slurmdbd 10
end_daemon mariadbd 20
end_daemon munged 5
if grep -q proctrack/cgroup "$SLURM_CONF"; then
  find /sys/fs/cgroup -maxdepth 2 -type d -name 'slurm_lab*' -print0 2>/dev/null |
    xargs -0 -I {} find {} -depth -type d -exec rmdir {} + 2>/dev/null
fi
[ "${2:-}" != --purge ] || rm -rf "$STATE"
exit 0
