#!/usr/bin/env bash
# install-deps.sh installs what the test-suite needs on a Debian machine.
#
# It is safe to run again: it looks for each command first, and contacts the
# package archive only when one is missing. No service is started. It needs
# root; without root it names what is missing and fails.
#
# Exit status: 0 everything is there, 1 something is missing or failed.
set -euo pipefail

# Commands in sbin count as installed even when the caller's PATH lacks it.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export DEBIAN_FRONTEND=noninteractive

POLICY=/usr/sbin/policy-rc.d
saved_policy=

die() { printf 'install-deps: error: %s\n' "$*" >&2; exit 1; }
note() { printf 'install-deps: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
apt() { apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qq "$@"; }

# static_busybox reports whether busybox runs without any library: Debian's
# plain "busybox" package is dynamically linked, and an image holding only
# that file would not start.
static_busybox() {
  local file
  file=$(command -v busybox) || return 1
  ! ldd "$file" >/dev/null 2>&1
}

# missing prints the packages whose commands are not there, one per line.
missing() {
  # dockerd decides, not docker: a machine may carry a docker client of its
  # own (for a remote daemon) and have no daemon.
  have dockerd && have containerd && have runc || echo docker.io
  # Since Debian 13 the client is a package of its own.
  if ! have docker && apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; fi
  # With AppArmor in the kernel, dockerd refuses containers without the parser.
  if grep -qs Y /sys/module/apparmor/parameters/enabled; then have apparmor_parser || echo apparmor; fi
  have podman || echo podman
  have fusermount3 || echo fuse3
  static_busybox || echo busybox-static
  have gnome-keyring-daemon || echo gnome-keyring
  have secret-tool || echo libsecret-tools
  have dbus-run-session && have dbus-daemon || echo dbus
  have nsenter && have unshare && have setpriv || echo util-linux
  have mount && have umount || echo mount
  have ip || echo iproute2
  have jq || echo jq
  # A private systemd runs the shipped unit; it needs a terminal of its own for its log.
  [[ -x /lib/systemd/systemd ]] && have systemctl || echo systemd
  have script || echo bsdutils
  have pgrep || echo procps
  have node || echo nodejs
  # npm fetches the real client. NodeSource's nodejs brings its own npm, and
  # conflicts with Debian's package, so look for the command.
  have npm || echo npm
}

# deny_services makes invoke-rc.d start nothing during the installation.
deny_services() {
  if [[ -e $POLICY || -L $POLICY ]]; then
    saved_policy=$(mktemp -u "$POLICY.install-deps.XXXXXX")
    mv "$POLICY" "$saved_policy"
  fi
  trap restore_services EXIT
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod 0755 "$POLICY"
}

restore_services() {
  rm -f "$POLICY"
  if [[ -n $saved_policy ]]; then mv "$saved_policy" "$POLICY"; fi
}

install_packages() {
  [[ $EUID -eq 0 ]] || die "missing packages: $*; run as root to install them"
  have apt-get || die "missing packages: $*; this machine has no apt-get, install them by hand"
  deny_services
  apt update
  # Ask again: which package holds the docker client is known only now.
  local packages
  mapfile -t packages < <(missing)
  set -- "${packages[@]}"
  note "installing: $*"
  # dpkg's progress is kept back and shown only when it matters.
  local log
  log=$(mktemp)
  if ! apt install -y --no-install-recommends "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "install packages: $*"
  fi
  rm -f "$log"
  restore_services
  trap - EXIT
}

# ensure_fuse makes /dev/fuse. A machine without udev lacks the node although
# the kernel has the driver.
ensure_fuse() {
  [[ -c /dev/fuse ]] && return
  if ! grep -qw fuse /proc/filesystems && have modprobe; then modprobe fuse || true; fi
  [[ -c /dev/fuse ]] && return # udev may have made it by now
  grep -qw fuse /proc/filesystems || die "this kernel has no FUSE"
  [[ $EUID -eq 0 ]] || die "/dev/fuse is missing; run as root to create it"
  mknod -m 0666 /dev/fuse c 10 229
  note "created /dev/fuse"
}

# ensure_cgroup mounts a cgroup hierarchy where init has not: dockerd needs one.
ensure_cgroup() {
  if grep -q ' /sys/fs/cgroup' /proc/self/mounts; then return; fi
  [[ $EUID -eq 0 ]] || die "/sys/fs/cgroup is not mounted; run as root to mount it"
  mkdir -p /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
  note "mounted cgroup2 on /sys/fs/cgroup"
}

main() {
  local packages left
  mapfile -t packages < <(missing)
  if ((${#packages[@]})); then install_packages "${packages[@]}"; fi
  hash -r
  mapfile -t left < <(missing)
  if ((${#left[@]})); then die "still missing after installation: ${left[*]}"; fi
  have docker || die "docker client is missing"
  ensure_fuse
  ensure_cgroup
  note "ok: $(dockerd --version), docker client $(docker version --format '{{.Client.Version}}' 2>/dev/null || true)"
}

main "$@"
