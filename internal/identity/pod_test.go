package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/identity"
)

const (
	podUID = "0b7f3c1e-8f3e-4a77-9d4f-0123456789ab"
	podB   = "1c8f4d2f-9a4f-4b88-8e50-ba9876543210"
	podOfF = "0123456789abcdef0123456789abcdef" // as the kubelet names a pod that it read from a file
)

// inPod writes POD for a uid with dashes and P_D for one with underscores.
func inPod(s string) string {
	under := func(uid string) string { return strings.ReplaceAll(uid, "-", "_") }
	return expand(strings.NewReplacer("P_D", under(podUID), "POD", podUID, "B_B", under(podB), "BPB", podB, "HASH", podOfF).Replace(s))
}

var podPaths = []struct{ name, path, want string }{
	{"cgroupfs, guaranteed", "/kubepods/podPOD/SELF", podUID},
	{"cgroupfs, burstable", "/kubepods/burstable/podPOD/SELF", podUID},
	{"cgroupfs, best effort", "/kubepods/besteffort/podPOD/SELF", podUID},
	{"cgroupfs, crio", "/kubepods/burstable/podPOD/crio-SELF", podUID},
	{"cgroupfs, kubelet has a root of its own", "/node/kubepods/podPOD/SELF", podUID},
	{"cgroupfs, below the container", "/kubepods/podPOD/SELF/init.scope", podUID},
	{"cgroupfs, static", "/kubepods/burstable/podHASH/SELF", podOfF},
	{"systemd, guaranteed", "/kubepods.slice/kubepods-podP_D.slice/cri-containerd-SELF.scope", podUID},
	{"systemd, burstable", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_D.slice/crio-SELF.scope", podUID},
	{"systemd, best effort", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_D.slice/docker-SELF.scope", podUID},
	{"systemd, container below", "/kubepods.slice/kubepods-podP_D.slice/crio-SELF.scope/container", podUID},
	{"systemd, kubelet's own slice", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podP_D.slice/cri-containerd-SELF.scope", podUID},
	{"systemd, static", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/crio-SELF.scope", podOfF},
	{"colons", "/system.slice/containerd.service/kubepods-besteffort-podP_D.slice:cri-containerd:SELF", podUID},
	{"colons at the root", "/kubepods-podP_D.slice:cri-containerd:SELF", podUID},

	{"docker", "/docker/SELF", ""},
	{"no container", "/kubepods/burstable/podPOD", ""},
	{"crio's monitor", "/kubepods.slice/kubepods-podP_D.slice/crio-conmon-SELF.scope", ""},
	{"kind: below the node's container", "/docker/SELF/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podP_D.slice/cri-containerd-INNER.scope", ""},
	{"attacker's own, below", "/docker/SELF/kubepods/podPOD/VICTIM", ""},
	{"attacker in a pod, another pod below", "/kubepods/podPOD/SELF/kubepods/podBPB/VICTIM", podUID},
	{"a user's own", "/user.slice/user-1000.slice/user@1000.service/kubepods/podPOD/SELF", ""},
	{"a user's own slice", "/user.slice/user-1000.slice/user@1000.service/kubepods-podP_D.slice/docker-SELF.scope", ""},
	{"docker's cgroup parent is no kubelet", "/ci/podPOD/SELF", ""},
	{"class without kubelet", "/burstable/podPOD/SELF", ""},
	{"class twice", "/kubepods/burstable/besteffort/podPOD/SELF", ""},
	{"directory with underscores", "/kubepods/podP_D/SELF", ""},
	{"slice with dashes", "/kubepods.slice/kubepods-podPOD.slice/docker-SELF.scope", ""},
	{"podman's pod", "/machine.slice/machine-libpod_pod_VICTIM.slice/libpod-SELF.scope/container", ""},
	{"no uid", "/kubepods/pod12-34/SELF", ""},
	{"suffix", "/kubepods/podPODx/SELF", ""},
	{"upper case", "/kubepods/pod0B7F3C1E-8F3E-4A77-9D4F-0123456789AB/SELF", ""},
}

func TestPod(t *testing.T) {
	for _, c := range podPaths {
		got, err := identity.Pod(map[string]string{"pids": inPod(c.path), "cpu": "/", "name=systemd": "/system.slice/kubelet.service"})
		if got != c.want || err != nil {
			t.Errorf("%s: got %q %v, want %q", c.name, got, err, c.want)
		}
	}
}

// The same container in two pods, or in one and in none, was moved, or made its cgroups up.
func TestPodContradictions(t *testing.T) {
	for _, c := range []struct{ name, pids, cpu string }{
		{"two pods", "/kubepods/podPOD/SELF", "/kubepods/podBPB/SELF"},
		{"a pod and none", "/kubepods/podPOD/SELF", "/docker/SELF"},
		{"none and a pod", "/docker/SELF", "/kubepods/podPOD/SELF"},
	} {
		for range 20 { // maps have no order
			got, err := identity.Pod(map[string]string{"pids": inPod(c.pids), "cpu": inPod(c.cpu)})
			if !errors.Is(err, identity.ErrPod) || !errors.Is(err, identity.ErrDenied) || got != "" {
				t.Fatalf("%s: got %q %v", c.name, got, err)
			}
		}
	}
}

func FuzzPod(f *testing.F) {
	for _, c := range podPaths {
		f.Add(inPod(c.path))
	}
	f.Fuzz(func(t *testing.T, path string) {
		paths := map[string]string{"": path}
		uid, err := identity.Pod(paths)
		if err != nil {
			t.Fatalf("one path contradicts itself: %q: %v", path, err)
		}
		if uid == "" {
			return
		}
		if strings.Trim(uid, "0123456789abcdef-") != "" || len(uid) != 36 && len(uid) != 32 {
			t.Fatalf("pod %q of %q", uid, path)
		}
		if id, _, err := identity.Container(paths); id == "" || err != nil {
			t.Fatalf("pod %q without a container in %q: %v", uid, path, err)
		}
	})
}
