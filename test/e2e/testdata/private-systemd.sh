#!/bin/bash
# private-systemd.sh DIR MOUNTPOINT: a systemd of one's own, for a test.
#
# Runs `systemd --user` as root in the host's pid, user, network and cgroup namespace, with the units of DIR/units and
# nothing else, until standard input ends; says "ready" when it takes commands (XDG_RUNTIME_DIR=DIR/xdg systemctl --user).
# At the end, or when it is killed other than by SIGKILL, nothing is left: the services are stopped, what is left in the
# manager's cgroup is killed, and MOUNTPOINT is unmounted. DIR has to be short, for a socket's path has 108 bytes.
#
# Needs root, util-linux, bsdutils (script) and the package systemd; no D-Bus, no login session, no journald.
set -euo pipefail

dir=$1 mnt=$2
bin=${SYSTEMD:-/lib/systemd/systemd} # another one, to try another version
die() { echo "private-systemd: $*" >&2; exit 1; }

if [[ ! ${PRIVATE:-} ]]; then
	[[ $EUID == 0 ]] || die "root is needed"
	[[ -x $bin ]] || die "$bin is missing: apt-get install --no-install-recommends systemd"
	# /run/systemd/system has to exist for `systemd --user`, and must not on this machine: a private mount namespace.
	exec 9</proc/self/ns/mnt
	PRIVATE=yes exec unshare --mount --propagation private -- bash "$0" "$@"
fi

manager=
cgroups=()

# in_time COMMAND...: repeat it until it succeeds, for 10 s.
in_time() {
	local i
	for ((i = 0; i < 500; i++)); do
		"$@" && return
		sleep 0.02
	done
	return 1
}

ctl() { XDG_RUNTIME_DIR=$dir/xdg timeout 40 systemctl --user "$@"; }
up() { [[ $(ctl show -p ActiveState --value default.target 2>/dev/null) == active ]]; }
ended() { ! kill -0 "$manager" 2>/dev/null; }
removed() {
	local d
	for d; do find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
	for d; do [[ ! -e $d ]] || return 1; done
}

finish() {
	local d p
	trap '' INT TERM HUP PIPE
	set +e
	if [[ $manager ]] && ! ended; then
		ctl exit >/dev/null 2>&1 # stops the services in order
		in_time ended
	fi
	for d in "${cgroups[@]}"; do
		if [[ -e $d/cgroup.kill ]]; then
			echo 1 >"$d/cgroup.kill"
		else
			while read -r p; do kill -KILL "$p" 2>/dev/null; done < <(find "$d" -name cgroup.procs -exec cat {} + 2>/dev/null)
		fi
	done
	in_time removed "${cgroups[@]}" || echo "private-systemd: left: ${cgroups[*]}" >&2
	nsenter --mount=/proc/self/fd/9 -- umount -l "$mnt" 2>/dev/null
	[[ ! $manager ]] || wait "$manager" 2>/dev/null
}
trap finish EXIT
trap 'exit 130' INT TERM HUP PIPE

# A manager moves every process of the cgroup that it finds itself in, so it gets one of its own.
for top in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do # hybrid (the first two), v1, v2
	case $top:$(stat -f -c %T "$top" 2>/dev/null || true) in
	*:cgroup2fs | */systemd:cgroupfs) cgroups+=("$top/claudefs-test-$$") ;;
	esac
done
((${#cgroups[@]})) || die "no cgroup2 and no name=systemd hierarchy"
mkdir "${cgroups[@]}"

# The targets that services depend on by default, and the service behind "systemctl exit".
mkdir -m 700 "$dir"/{units,xdg,home,empty}
unit() { printf '%s\n' "${@:2}" >"$dir/units/$1"; }
unit basic.target '[Unit]'
unit default.target '[Unit]' AllowIsolate=yes
unit shutdown.target '[Unit]' DefaultDependencies=no
unit exit.target '[Unit]' DefaultDependencies=no Requires=systemd-exit.service After=systemd-exit.service AllowIsolate=yes
unit systemd-exit.service '[Unit]' DefaultDependencies=no Requires=shutdown.target After=shutdown.target SuccessAction=exit-force \
	'[Service]' Slice=-.slice

# What runs on the terminal that script(1) lends: systemd logs to /dev/console alone, and wants a terminal there.
# daemon-reload wants 16 MiB free on /run/systemd. No generators: the distribution's write to the kernel's log.
cat >"$dir/inner" <<-INNER
	set -eu
	mount --bind "\$(tty)" /dev/console
	mount -t tmpfs -o mode=755,size=64m claudefs-test /run/systemd
	mkdir /run/systemd/system
	exec env -i PATH="$PATH" HOME="$dir/home" LANG=C.UTF-8 \\
	  XDG_RUNTIME_DIR="$dir/xdg" XDG_CONFIG_HOME="$dir/home" XDG_DATA_HOME="$dir/home" SYSTEMD_UNIT_PATH="$dir/units" \\
	  SYSTEMD_GENERATOR_PATH="$dir/empty" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$dir/empty" \\
	  $bin --user --unit=default.target --log-target=console --log-color=false
INNER
(
	for d in "${cgroups[@]}"; do echo "$BASHPID" >"$d/cgroup.procs"; done
	exec 9<&-
	exec script -qefc "exec bash $dir/inner" -O "$dir/manager.log" >/dev/null 2>&1 </dev/null
) &
manager=$!
in_time up || { cat "$dir/manager.log" >&2; die "the manager did not start"; }
echo ready
read -r _ || true
