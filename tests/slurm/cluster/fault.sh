#!/usr/bin/env bash
# Inject a fault into a cluster of start.sh.
#
#   fault.sh STATE_DIR node-lost NODE   kill the node's slurmd and all its processes
#   fault.sh STATE_DIR node-back NODE   start its slurmd again
#   fault.sh STATE_DIR ctld-down        stop the controller
#   fault.sh STATE_DIR ctld-up          start it again
#   fault.sh STATE_DIR dbd-down         stop accounting
#   fault.sh STATE_DIR dbd-up           start it again
#   fault.sh STATE_DIR preempt JOB      submit a job of a higher partition that needs all GPUs and
#                                       CPUs of the job's node for ten seconds
#   fault.sh STATE_DIR warn JOB         send the signal that precedes the time limit
set -euo pipefail

STATE=${1:-}
# shellcheck source=tests/slurm/cluster/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 2 ] || usage 2

lose_node() {
  local pid stepd jobs=() steps=()
  kill -9 "$(cat "$STATE/run/slurmd.$1.pid")"
  for pid in $(processes_with "SLURMD_NODENAME=$1"); do
    jobs+=("$pid")
    stepd=$(stepd_of "$pid")
    # Stop it first, or it reports the end of its job.
    if [ -n "$stepd" ]; then kill -STOP "$stepd" && steps+=("$stepd"); fi
  done
  kill -9 ${steps[@]+"${steps[@]}"} ${jobs[@]+"${jobs[@]}"} 2>/dev/null || true
}

preempt() {
  local node
  node=$(squeue -h -j "$1" -o %N)
  sbatch --parsable --partition=urgent --nodelist="$node" --exclusive --mem=100 --time=1 \
    --output=/dev/null --wrap="sleep 10"
}

case $2 in
  node-lost) lose_node "$3" ;;
  node-back) slurmd -N "$3" ;;
  ctld-down) end_daemon slurmctld 10 ;;
  ctld-up) slurmctld ;;
  dbd-down) end_daemon slurmdbd 10 ;;
  dbd-up) slurmdbd ;;
  preempt) preempt "$3" ;;
  warn) scancel --batch --signal=USR2 "$3" ;;
  *) die "unknown fault $2" ;;
esac
