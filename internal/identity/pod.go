package identity

import (
	"regexp"
	"strings"
)

// The kubelet's cgroup of a pod, for its two drivers. A uid is a UUID; the kubelet gives a pod that it reads from a
// file the hex digits of a hash.
var (
	podDir   = regexp.MustCompile(`^pod([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})$`)
	podSlice = regexp.MustCompile(`^(?:[a-z0-9]+-)?kubepods(?:-burstable|-besteffort)?-pod([0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}|[0-9a-f]{32})\.slice$`)
)

// Pod returns the uid of the Kubernetes pod whose cgroup holds the container's, with dashes as the API server writes
// it; "" when the container is in none. Every hierarchy that names a container must say the same, or it is ErrPod.
func Pod(paths map[string]string) (string, error) {
	uid, named := "", false
	for _, path := range paths {
		_, _, prefix := claim(path)
		if prefix == "" {
			continue
		}
		got := podAbove(prefix)
		if named && got != uid {
			return "", ErrPod
		}
		uid, named = got, true
	}
	return uid, nil
}

// podAbove looks for a pod in a path that ends with the outermost container: what is below, as in a Kubernetes that
// runs inside of a container, anyone in that container can make.
func podAbove(prefix string) string {
	if !strings.Contains(prefix, "pod") {
		return "" // both patterns have it
	}
	if strings.HasPrefix(prefix, "/user.slice/") {
		return "" // Fail closed: every user can make any cgroup below their own
	}
	parts := strings.Split(prefix, "/")
	for i, part := range parts {
		slice, _, _ := strings.Cut(part, ":") // "<slice>:cri-containerd:<id>"
		if m := podSlice.FindStringSubmatch(slice); m != nil {
			return strings.ReplaceAll(m[1], "_", "-")
		}
		if m := podDir.FindStringSubmatch(part); m != nil && ofKubelet(parts[:i]) {
			return m[1]
		}
	}
	return ""
}

// ofKubelet reports whether a directory is one where the kubelet keeps pods: kubepods, or that of a class below it.
func ofKubelet(parts []string) bool {
	if n := len(parts); n > 0 && (parts[n-1] == "burstable" || parts[n-1] == "besteffort") {
		parts = parts[:n-1]
	}
	return len(parts) > 0 && parts[len(parts)-1] == "kubepods"
}
