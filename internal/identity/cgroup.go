package identity

import (
	"fmt"
	"regexp"
	"strings"
)

// runtimes are the prefixes that a component naming a container may have. "libpod-payload-" is what podman makes below a
// unit of systemd (--cgroups=split, as every Quadlet has it). "libpod-conmon-", which runs on the host, is none.
var runtimes = map[string]string{
	"": "", "docker-": "docker", "libpod-": "libpod", "libpod-payload-": "libpod", "crio-": "crio",
	"cri-containerd-": "cri-containerd", "containerd-": "containerd", "nerdctl-": "nerdctl", "buildkit-": "buildkit",
}

const idLength = 64 // hex digits

// component takes a path component that names a container apart: a runtime's prefix, the id, and perhaps ".scope". It
// must be that entirely; else id is "".
func component(part string) (id, runtime string) {
	part = strings.TrimSuffix(part, ".scope")
	if len(part) < idLength {
		return "", ""
	}
	prefix, id := part[:len(part)-idLength], part[len(part)-idLength:]
	runtime, known := runtimes[prefix]
	if !known || strings.Trim(id, "0123456789abcdef") != "" {
		return "", ""
	}
	return id, runtime
}

// runtimeUnit matches where runtimes themselves run. With cgroup v1 they leave their containers there in v2, which has
// no controllers then.
var runtimeUnit = regexp.MustCompile(`^/system\.slice/(?:docker|dockerd|containerd|crio|podman|kubelet|k3s|k3s-agent|rke2-server|rke2-agent|snap\.docker\.dockerd)\.service$`)

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
		if len(part) >= idLength {
			id, runtime = component(scope(part))
		}
		if id != "" {
			return id, runtime, path[:end]
		}
		off = end + 1
	}
	return "", "", ""
}

// scope makes "cri-containerd-<id>" of "<slice>.slice:cri-containerd:<id>": the name that is meant for systemd's driver,
// which a runtime with the other driver takes for a directory.
func scope(part string) string {
	f := strings.Split(part, ":")
	switch {
	case len(f) != 3:
		return part
	case f[1] == "":
		return f[2]
	}
	return f[1] + "-" + f[2]
}

// Container names the container of a set of cgroup paths: "" when none is named. Hierarchies at "/" say nothing, and
// neither do those without controllers that have the process beside its runtime; all others must name the same
// container, or it is ErrCgroup.
func Container(paths map[string]string) (id, runtime string, err error) {
	spoke, silent := false, false
	for hierarchy, path := range paths {
		if path == "/" {
			continue
		}
		got, rt, _ := claim(path)
		if got == "" {
			silent = silent || !besideRuntime(hierarchy, path)
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

// besideRuntime reports whether a hierarchy that names no container contradicts none: name=systemd, and on a hybrid
// host cgroup v2, where the containers of a runtime on v1 stay in the runtime's own unit.
func besideRuntime(hierarchy, path string) bool {
	if hierarchy == "" {
		return runtimeUnit.MatchString(path)
	}
	return hierarchy == "name=systemd"
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
