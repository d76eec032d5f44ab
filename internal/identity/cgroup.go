package identity

import (
	"fmt"
	"regexp"
	"strings"
)

// component matches one path component that names a container: an optional runtime prefix and 64 hex digits. It must
// match entirely, so "libpod-conmon-<id>.scope", which runs on the host, does not.
var component = regexp.MustCompile(`^(?:(docker|libpod|crio|cri-containerd|containerd|nerdctl|buildkit)-)?([0-9a-f]{64})(?:\.scope)?$`)

// ParseCgroup reads /proc/<pid>/cgroup: the path by hierarchy, "" for cgroup v2.
func ParseCgroup(text string) (map[string]string, error) {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return nil, fmt.Errorf("read cgroup line %q: %w", line, errBadProc)
		}
		if _, twice := out[f[1]]; twice {
			return nil, fmt.Errorf("read cgroup: hierarchy %q twice: %w", f[1], errBadProc)
		}
		out[f[1]] = f[2]
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read cgroup: empty: %w", errBadProc)
	}
	return out, nil
}

// claim returns the outermost container that a cgroup path names, and the path up to and including it.
func claim(path string) (id, runtime, prefix string) {
	off := 0
	for part := range strings.SplitSeq(path, "/") {
		end := off + len(part)
		if m := component.FindStringSubmatch(lastUnit(part)); m != nil {
			return m[2], m[1], path[:end]
		}
		off = end + 1
	}
	return "", "", ""
}

// lastUnit is the container part of containerd's "slice:cri-containerd:<id>".
func lastUnit(part string) string {
	if i := strings.LastIndexByte(part, ':'); i >= 0 {
		return part[i+1:]
	}
	return part
}

// Container names the container of a set of cgroup paths: "" when none is named. Hierarchies at "/" say nothing;
// all others must name the same container, or it is ErrCgroup.
func Container(paths map[string]string) (id, runtime string, err error) {
	spoke, silent := false, false
	for hierarchy, path := range paths {
		if path == "/" {
			continue
		}
		got, rt, _ := claim(path)
		if got == "" {
			silent = silent || hierarchy != "name=systemd"
			continue
		}
		if spoke && got != id {
			return "", "", ErrCgroup
		}
		spoke, id = true, got
		runtime = max(runtime, rt) // not all hierarchies say; the same answer whatever their order
	}
	if spoke && silent {
		// Fail closed: some hierarchy places the process elsewhere on the host.
		return "", "", ErrCgroup
	}
	return id, runtime, nil
}

// Within reports whether caller's path is at or below the container's part of init's path in every hierarchy where
// init has one. init itself may have moved below it, as systemd does.
func Within(caller, init map[string]string, id string) bool {
	checked := false
	for h, p := range init {
		got, _, prefix := claim(p)
		if got != id {
			if p == "/" || got == "" {
				continue
			}
			return false
		}
		c, ok := caller[h]
		if !ok || c != prefix && !strings.HasPrefix(c, prefix+"/") {
			return false
		}
		checked = true
	}
	return checked
}
