# The guardian of one private dockerd: waits until its standard input closes,
# then removes everything the daemon had. Run by process.go as "sh -c", with
#   DOCKERTEST_ROOT    the daemon's tree
#   DOCKERTEST_DOCKER  the docker client; DOCKER_HOST is set too
# Exit status 0: the tree is gone. Otherwise standard error says what is left.
set -u
trap '' INT TERM HUP QUIT PIPE
root=${DOCKERTEST_ROOT:?}
name=${root##*/} # is part of every path, and of the containerd namespaces
shared=/run/containerd/containerd.sock

# ours PATTERN: pids of this daemon's processes whose executable matches.
# Zombies have no executable and do not count.
ours() {
  for cmdline in $(grep -lasF "$name" /proc/[0-9]*/cmdline); do
    pid=${cmdline#/proc/} pid=${pid%/cmdline}
    case $(readlink "/proc/$pid/exe") in
    */$1) echo "$pid" ;;
    esac
  done
}

# wait_gone PATTERN TENTHS: polls until none of them runs.
wait_gone() {
  n=0
  while [ -n "$(ours "$1")" ]; do
    n=$((n + 1))
    [ "$n" -le "$2" ] || return 1
    sleep 0.1
  done
}

# mounts: mount points below the tree, the last one mounted first.
mounts() {
  awk -v root="$root/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | tac
}

read -r _ # returns when the test process is gone, or stops us

grace=0
if [ -n "$(ours dockerd)" ]; then
  grace=30
  ids=$(timeout 20 "$DOCKERTEST_DOCKER" ps -aq --no-trunc)
  # shellcheck disable=SC2086 # one argument per container
  [ -z "$ids" ] || timeout 40 "$DOCKERTEST_DOCKER" rm -f -v $ids >/dev/null
fi

# What a dead or stuck daemon left running.
for dir in "$root"/exec/runtime-*/*/*/; do
  [ -d "$dir" ] || continue
  dir=${dir%/}
  runc --root "${dir%/*}" delete --force "${dir##*/}"
done
# A shim's socket is outside the tree, and a killed shim does not remove it.
sockets=$(cat "$root"/exec/containerd/daemon/*/*/*/address 2>/dev/null |
  grep -o '/run/containerd/s/[0-9a-f]*')

# dockerd ends its containerd, and that its shims; without it they stay.
pids=$(ours dockerd)
# shellcheck disable=SC2086
[ -z "$pids" ] || kill -TERM $pids
wait_gone 'dockerd' 150

# Where containerd is a service, it keeps records and shims of its own. Normally
# only the empty namespaces are left.
if [ -S "$shared" ]; then
  for ns in $(timeout 10 ctr namespaces ls -q | grep -F "$name"); do
    for id in $(timeout 10 ctr -n "$ns" containers ls -q); do
      timeout 10 ctr -n "$ns" tasks rm -f "$id"
      timeout 10 ctr -n "$ns" containers rm "$id"
    done
    timeout 10 ctr namespaces rm "$ns" >/dev/null
    rmdir "${shared%/*}"/io.containerd.runtime.*/"$ns" 2>/dev/null
  done
fi

wait_gone 'containerd*' "$grace" || {
  # shellcheck disable=SC2046
  kill -KILL $(ours 'dockerd') $(ours 'containerd*') 2>/dev/null
  wait_gone '*' 50
}
# shellcheck disable=SC2086
[ -z "$sockets" ] || rm -f $sockets

for mountpoint in $(mounts); do umount -l "$mountpoint"; done

# A container's last process may hold a directory for a moment.
n=0
until rm -rf --one-file-system "$root" 2>/dev/null; do
  n=$((n + 1))
  [ "$n" -le 20 ] || exec rm -rf --one-file-system "$root"
  sleep 0.1
done
