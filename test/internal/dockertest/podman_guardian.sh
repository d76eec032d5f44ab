# The guardian of one private Podman service: waits until its standard input
# closes, then removes everything the service had. Run by guardian.go as "sh -c",
# with
#   DOCKERTEST_ROOT  the service's tree; CONTAINERS_CONF and
#                    CONTAINERS_STORAGE_CONF, which name places in it, are set
# Exit status 0: the tree is gone. Otherwise standard error says what is left.
set -u
trap '' INT TERM HUP QUIT PIPE
root=${DOCKERTEST_ROOT:?}

# ours PATTERN: pids of this service's processes whose executable matches. A
# path of the tree is in the command line of each. Zombies have no executable
# and do not count.
ours() {
  for cmdline in $(grep -lasF "$root/" /proc/[0-9]*/cmdline); do
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

# The service first, so that it starts no container while they are removed.
pids=$(ours podman)
# shellcheck disable=SC2086
[ -z "$pids" ] || kill -TERM $pids
wait_gone podman 50

# No service is needed for this.
timeout 60 podman --root "$root/data" --runroot "$root/run" --tmpdir "$root/tmp" --storage-driver vfs \
  rm --force --time 0 --all --volumes >/dev/null

# What that did not reach. runc keeps its records in one place for all callers,
# but by id, and the ids are in the tree's paths.
for dir in "$root"/data/vfs-containers/*/; do
  [ -d "$dir/userdata" ] || continue
  dir=${dir%/}
  runc delete --force "${dir##*/}" 2>/dev/null
done
# Those of containers end by themselves; those of an exec may linger.
wait_gone conmon 10
wait_gone podman 10 # conmon's last call
wait_gone '*' 0 || {
  for program in podman conmon runc; do
    # shellcheck disable=SC2046
    kill -KILL $(ours "$program") 2>/dev/null
  done
  wait_gone podman 50
}

for mountpoint in $(mounts); do umount -l "$mountpoint"; done

# A container's last process may hold a directory for a moment.
n=0
until rm -rf --one-file-system "$root" 2>/dev/null; do
  n=$((n + 1))
  [ "$n" -le 20 ] || exec rm -rf --one-file-system "$root"
  sleep 0.1
done
