#!/usr/bin/env bash
# Start a small, real Slurm cluster on this machine, for tests.
#
#   start.sh STATE_DIR [options]
#
#   --nodes N          compute nodes, one slurmd each                (2)
#   --gpus N           GPUs of a node, device nodes like /dev/null   (2)
#   --cpus N           CPUs of a node; may exceed the real number    (4)
#   --memory MB        memory of a node for the scheduler            (8000)
#   --accounting MODE  dbd: mariadb and slurmdbd, sacct answers      (dbd)
#                      none: sacct exits with status 1
#   --port-base P      first port used on 127.0.0.1; 10 + N in all   (17300)
#   --grace S          grace time of a preempted job in seconds      (0)
#   --cgroup           the kernel kills jobs that exceed their memory (state OUT_OF_MEMORY);
#                      without it, Slurm samples the memory and the state is FAILED
#
# Needs root on Debian or Ubuntu and installs missing packages. Configuration, keys, database, spool
# and logs are under STATE_DIR. Nothing in /etc is read or written, and all daemons listen on loopback.
# If the cluster is already up, only missing daemons are started.
# Partitions: gpu (default; preempted jobs are requeued), urgent (preempts gpu), short (one minute).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${1:-} nodes=2 gpus=2 cpus=4 memory=8000 accounting=dbd port=17300 grace=0 cgroup=0
# shellcheck source=tests/slurm/cluster/common.sh
. "$here/common.sh"
case $STATE in '') usage 2 ;; -h | --help) usage ;; esac
shift
while [ $# -gt 0 ]; do
  case $1 in
    --nodes) nodes=$2 ;;
    --gpus) gpus=$2 ;;
    --cpus) cpus=$2 ;;
    --memory) memory=$2 ;;
    --accounting) accounting=$2 ;;
    --port-base) port=$2 ;;
    --grace) grace=$2 ;;
    --cgroup) cgroup=1; shift; continue ;;
    *) die "unknown option $1" ;;
  esac
  shift 2
done

check() {
  [ "$(id -u)" = 0 ] || cannot "needs root"
  case $accounting in dbd | none) ;; *) die "--accounting is dbd or none" ;; esac
  mkdir -p "$STATE"
  STATE=$(cd "$STATE" && pwd)
  export SLURM_CONF=$STATE/etc/slurm.conf
  [[ $STATE != *[[:space:]]* && ${#STATE} -le 80 ]] ||
    die "STATE_DIR must be at most 80 characters without white space"
  # With the loopback setting, Slurm listens at the address of the host name.
  getent ahostsv4 "$(hostname)" | grep -q '^127\.' ||
    cannot "the host name $(hostname) must resolve to 127.x: add '127.0.0.1 $(hostname)' to /etc/hosts"
}

install_packages() {
  local missing=() command package policy=/usr/sbin/policy-rc.d
  while read -r command package; do
    command -v "$command" >/dev/null || missing+=("$package")
  done < <(
    printf '%s\n' "munged munge" "slurmctld slurmctld" "slurmd slurmd" "sbatch slurm-client"
    [ "$accounting" = none ] || printf '%s\n' "slurmdbd slurmdbd" "slurmdbd slurm-wlm-mysql-plugin" \
      "mariadbd mariadb-server-core" "mariadb mariadb-client-core"
  )
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || cannot "missing packages: ${missing[*]}; install them, as there is no apt-get"
  if [ -e $policy ]; then policy=/dev/null; else # the services of the packages must not start
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"; } > "$STATE/apt.log" 2>&1 ||
    { [ $policy = /dev/null ] || rm -f $policy
      tail -n 3 "$STATE/apt.log" >&2
      cannot "cannot install ${missing[*]}, see $STATE/apt.log"; }
  [ $policy = /dev/null ] || rm -f $policy
}

render() { # render TEMPLATE
  sed -e "s|@STATE@|$STATE|g" -e "s|@CTLD_PORT@|$port|g" -e "s|@DBD_PORT@|$((port + 1))|g" \
    -e "s|@DB_PORT@|$((port + 2))|g" -e "s|@DB_PASS@|${db_pass:-}|g" "$here/$1"
}

write_slurm_conf() {
  local i all="lab[1-$nodes]" resources="CPUs=$cpus RealMemory=$memory"
  [ "$nodes" -gt 1 ] || all=lab1
  [ "$gpus" = 0 ] || resources+=" Gres=gpu:fake:$gpus"
  render slurm.conf.in
  if [ $cgroup = 1 ]; then
    printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup JobAcctGatherFrequency=task=5
  else
    printf '%s\n' ProctrackType=proctrack/linuxproc TaskPlugin=task/none \
      JobAcctGatherFrequency=task=1 JobAcctGatherParams=OverMemoryKill
  fi
  if [ "$accounting" = dbd ]; then
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=localhost \
      "AccountingStoragePort=$((port + 1))" "AccountingStoragePass=$STATE/munge/munge.socket" \
      AccountingStorageTRES=gres/gpu AccountingStoreFlags=job_comment
  else
    echo AccountingStorageType=accounting_storage/none
  fi
  for i in $(seq "$nodes"); do
    echo "NodeName=lab$i NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((port + 10 + i)) $resources"
  done
  local common="Nodes=$all State=UP DefaultTime=00:10:00"
  echo "PartitionName=gpu $common Default=YES MaxTime=2-0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=$grace"
  echo "PartitionName=urgent $common MaxTime=2-0 PriorityTier=10 PreemptMode=OFF"
  echo "PartitionName=short $common MaxTime=00:01:00 PriorityTier=1 PreemptMode=REQUEUE"
}

write_gres_conf() { # Slurm needs a device node per GPU; its number becomes CUDA_VISIBLE_DEVICES
  local i gpu
  [ "$gpus" -gt 0 ] || return 0
  for i in $(seq "$nodes"); do
    mkdir -p "$STATE/gpu/lab$i"
    for gpu in $(seq 0 $((gpus - 1))); do
      [ -c "$STATE/gpu/lab$i/nvidia$gpu" ] || mknod -m 666 "$STATE/gpu/lab$i/nvidia$gpu" c 1 3 ||
        cannot "mknod failed: it needs CAP_MKNOD, and $STATE on a file system that is not nodev"
    done
    echo "NodeName=lab$i Name=gpu Type=fake File=$STATE/gpu/lab$i/nvidia[0-$((gpus - 1))]"
  done
}

start_munge() {
  is_up munged && return
  [ -s "$STATE/munge/munge.key" ] ||
    (umask 077 && head -c 1024 /dev/urandom > "$STATE/munge/munge.key")
  chown -R root:root "$STATE/munge"
  rm -f "$STATE"/munge/munge.socket*
  munged --socket="$STATE/munge/munge.socket" --key-file="$STATE/munge/munge.key" \
    --pid-file="$STATE/run/munged.pid" --log-file="$STATE/log/munged.log" \
    --seed-file="$STATE/munge/munged.seed" --force 2>> "$STATE/log/munged.log" ||
    die "munged did not start, see $STATE/log/munged.log"
  wait_for 10 munged munge -n -S "$STATE/munge/munge.socket"
}

sql() { mariadb --no-defaults --socket="$STATE/db.socket" --user=root "$@"; }

start_database() {
  if [ ! -e "$STATE/db/.ready" ]; then
    rm -rf "$STATE/db"
    mariadb-install-db --no-defaults --user=root --datadir="$STATE/db" --skip-test-db \
      --auth-root-authentication-method=normal > "$STATE/log/mariadb-install.log" 2>&1 ||
      die "mariadb-install-db failed, see $STATE/log/mariadb-install.log"
    touch "$STATE/db/.ready"
  fi
  if ! is_up mariadbd; then
    setsid nohup mariadbd --no-defaults --user=root --datadir="$STATE/db" --socket="$STATE/db.socket" \
      --bind-address=127.0.0.1 --port=$((port + 2)) --pid-file="$STATE/run/mariadbd.pid" \
      --skip-log-bin --skip-name-resolve --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
      --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 --performance-schema=OFF \
      --max-connections=40 > "$STATE/log/mariadbd.log" 2>&1 < /dev/null &
  fi
  wait_for 60 mariadbd sql -e "select 1"
}

start_accounting() {
  local db_pass
  [ -s "$STATE/etc/db.pass" ] ||
    (umask 077 && od -An -N18 -tx1 /dev/urandom | tr -d ' \n' > "$STATE/etc/db.pass")
  db_pass=$(cat "$STATE/etc/db.pass")
  start_database
  sql -e "create database if not exists slurm_acct_db;
          create user if not exists 'slurm'@'127.0.0.1' identified by '$db_pass';
          grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';"
  (umask 077 && render slurmdbd.conf.in > "$STATE/etc/slurmdbd.conf")
  is_up slurmdbd || slurmdbd 2>> "$STATE/log/slurmdbd.log" || die "slurmdbd did not start"
  wait_for 60 slurmdbd sacctmgr -n list cluster
  for what in "cluster lab" "account lab description=lab organization=lab" "user root account=lab"; do
    # shellcheck disable=SC2086
    sacctmgr -i -n add $what > /dev/null 2>&1 || true # it exists already
  done
}

nodes_are_up() {
  [ "$(sinfo -h -N -p gpu -o %T | grep -cE '^(idle|mixed|allocated|completing)$')" -ge "$nodes" ]
}

start_slurm() {
  local i
  is_up slurmctld || slurmctld || die "slurmctld did not start, see $STATE/log/slurmctld.log"
  wait_for 30 slurmctld scontrol ping
  for i in $(seq "$nodes"); do
    is_up "slurmd.lab$i" || slurmd -N "lab$i" 2>> "$STATE/log/slurmd.lab$i.log" ||
      die "slurmd lab$i did not start, see $STATE/log/slurmd.lab$i.log"
  done
  for _ in $(seq 150); do nodes_are_up && return; sleep 0.1; done
  for i in $(seq "$nodes"); do # state after an unclean stop
    scontrol update "NodeName=lab$i" State=RESUME > /dev/null 2>&1 || true
  done
  wait_for 30 "the nodes" nodes_are_up
}

check
exec 9> "$(dirname "$STATE")/slurm-install.lock" # clusters that start at once install packages one after the other
flock 9
install_packages
exec 9>&-
umask 022
mkdir -p "$STATE"/{etc,log,run,ctld,spool,munge}
write_slurm_conf > "$STATE/etc/slurm.conf"
write_gres_conf > "$STATE/etc/gres.conf"
cp "$here/cgroup.conf" "$STATE/etc/cgroup.conf"
start_munge
[ "$accounting" = none ] || start_accounting
start_slurm
echo "export SLURM_CONF=$SLURM_CONF" > "$STATE/env.sh"
echo "slurm $(slurmctld -V | awk '{print $2}') is up after $SECONDS s: $nodes nodes with $gpus GPUs," \
  "accounting $accounting; . $STATE/env.sh"
