#!/usr/bin/env bash
# The demo: a local token endpoint with 30-second tokens, an encrypted vault, two trees, two readers in containers of
# their own (plain namespaces where no Docker engine answers), a refused reader, the audit log. Ends by itself and
# leaves nothing behind. Needs root, Linux and Go; everything happens in one temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "demo: needs root: it mounts a file system and makes namespaces (sudo make demo)" >&2; exit 1; }

dir=$(mktemp -d -t claudefs-demo.XXXXXX)
chmod 755 "$dir"
pids=() containers=()
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
cleanup() {
	rc=$?
	trap - EXIT INT TERM
	((${#containers[@]} == 0)) || docker rm -f "${containers[@]}" >/dev/null 2>&1 || true
	((${#containers[@]} == 0)) || docker rmi -f claudefs-demo:1 >/dev/null 2>&1 || true
	# KILL: unshare ignores TERM while its child runs, and takes the child with it.
	for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	"$claudefs" unmount >/dev/null 2>&1 || true
	rm -rf --one-file-system "$dir"
	exit "$rc"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

claudefs=${CLAUDEFS_DEMO_BINARY:-$PWD/bin/claudefs}
[ -x "$claudefs" ] || { echo "demo: $claudefs is not built; run make build" >&2; exit 1; }
go build -o "$dir/tokenendpoint" ./test/tokenendpoint

use_docker=no
if command -v busybox >/dev/null && docker info >/dev/null 2>&1; then use_docker=yes; fi
runtimes="[]"
if [ $use_docker = yes ]; then runtimes="[\"${DOCKER_HOST:-unix:///var/run/docker.sock}\"]"; fi

say "1. A token endpoint on loopback: access tokens live 30 s, a refresh token works once"
"$dir/tokenendpoint" -lifetime 30s -credentials "$dir/login.json" >"$dir/url" &
pids+=($!)
for _ in $(seq 100); do [ -s "$dir/url" ] && break; sleep 0.05; done
echo "   $(cat "$dir/url")"

cat >"$dir/config.yaml" <<EOF
state_dir: $dir/state
runtime_dir: $dir/run
audit: {file: $dir/audit.jsonl}
oauth: {token_url: "$(cat "$dir/url")"}
runtimes: $runtimes
EOF
export CLAUDEFS_CONFIG=$dir/config.yaml
mnt=$dir/mnt

say "2. claudefs import, claudefs mount"
"$claudefs" import --account default "$dir/login.json"
rm -f "$dir/login.json"
"$claudefs" mount --policy shared --daemon "$mnt"

# What a reader does: it looks at its own file and says what it sees. It never prints a token.
cat >"$dir/reader.sh" <<'EOF'
file=$1/.credentials.json name=$2 last=
while :; do
	if text=$(cat "$file" 2>&1); then
		token=$(printf %s "$text" | sed 's/.*"accessToken":"\([^"]*\)".*/\1/' | sha256sum | cut -c1-8)
		end=$(printf %s "$text" | sed 's/.*"expiresAt":\([0-9]*\).*/\1/')
		case $text in *'"refreshToken":"sk-ant-ort01-claudefs-'*) kind=placeholder ;; *) kind=REAL ;; esac
		now="token #$token, refresh token: $kind"
		[ "$now" = "$last" ] || echo "   [$name] $now, valid for $((end / 1000 - $(date +%s))) s"
		last=$now
	else
		echo "   [$name] refused"
	fi
	sleep 0.5
done
EOF

start_container() { # tree
	containers+=("claudefs-demo-$$-$1")
	docker run -d --name "claudefs-demo-$$-$1" --network none --stop-signal KILL -v "$dir/reader.sh:/reader.sh:ro" \
		--mount "type=bind,src=$mnt/$1,dst=/root/.claude" claudefs-demo:1 sh /reader.sh /root/.claude "$1" >/dev/null
	docker logs -f "claudefs-demo-$$-$1" > >(tee -a "$dir/seen") 2>&1 &
	pids+=($!)
}
start_namespace() { # tree
	mkdir -p "$dir/ns-$1"
	# The tree is bound to its place and the mount itself taken away, as a container runtime does it.
	unshare --mount --pid --fork --kill-child --mount-proc --propagation private sh -c \
		'mount --bind "$1/$2" "$3" && umount -l "$1" && exec sh "$4" "$3" "$2"' demo "$mnt" "$1" "$dir/ns-$1" "$dir/reader.sh" > >(tee -a "$dir/seen") 2>&1 &
	pids+=($!)
}

say "3. Two readers, each with a tree of its own; tokens rotate under them"
if [ $use_docker = yes ]; then
	echo "   (Docker containers)"
	mkdir -p "$dir/img/bin" "$dir/img/root" "$dir/img/tmp"
	cp "$(command -v busybox)" "$dir/img/bin/busybox"
	for a in sh cat sed sha256sum cut date sleep printf; do ln -sf busybox "$dir/img/bin/$a"; done
	tar -C "$dir/img" -c . | docker import -c 'ENV PATH=/bin' - claudefs-demo:1 >/dev/null
	start_container web
	start_container api
else
	echo "   (plain namespaces: no Docker engine answers here)"
	start_namespace web
	start_namespace api
fi
sleep 4
echo "   -- claudefs refresh --force"
"$claudefs" refresh --force | sed 's/^/   /'
sleep 2
echo "   -- now wait for the rotation that claudefs does by itself, 6 s before the token ends"
sleep 24

say "4. kill -9 of the server, and an upgrade: the readers notice nothing"
server() { "$claudefs" status --json | jq .pid; }
before=$(server)
kill -KILL "$before"
for _ in $(seq 200); do [ "$(server)" != "$before" ] && break; sleep 0.05; done
"$claudefs" upgrade | sed 's/^/   /'
"$claudefs" status | grep -E '^(daemon|keeper)' | sed 's/^/   /'
sleep 2
if grep refused "$dir/seen"; then echo "demo: a reader was refused" >&2; exit 1; fi

say "5. A reader that is not the container: root on the host"
if cat "$mnt/web/.credentials.json" 2>&1; then echo "demo: root on the host read the file" >&2; exit 1; fi

say "6. claudefs status"
"$claudefs" status

say "7. claudefs audit (last lines), claudefs audit verify"
"$claudefs" audit | tail -6
"$claudefs" audit verify

say "8. Nothing in clear on disk: looking for tokens in everything that claudefs wrote"
if grep -rlE 'sk-ant-o[ar]t01-[0-9a-f]{48}' "$dir/state" "$dir/run" "$dir/audit.jsonl"; then
	echo "demo: a token is on disk" >&2
	exit 1
fi
echo "   none"

rotations=$("$claudefs" audit --json | grep -c '"action":"rotate","outcome":"allowed"')
[ "$rotations" -ge 2 ] || { echo "demo: only $rotations rotations happened" >&2; exit 1; }
say "Done: $rotations rotations, both readers followed, everything is cleaned up"
