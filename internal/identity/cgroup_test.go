package identity_test

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/identity"
)

var (
	self   = strings.Repeat("a", 64)
	victim = strings.Repeat("b", 64)
	inner  = strings.Repeat("c", 64)
)

// patterns are the paths of research/fuse.md 1 and containers.md 2.2; SELF stands for an id.
var patterns = []struct{ name, cgroup, id, runtime string }{
	{"docker, cgroupfs, v2", "0::/docker/SELF\n", "SELF", ""},
	{"docker, cgroupfs, v1", "12:pids:/docker/SELF\n2:cpu,cpuacct:/docker/SELF\n1:name=systemd:/docker/SELF\n0::/docker/SELF\n", "SELF", ""},
	{"docker, hybrid with v2 at /", "12:pids:/docker/SELF\n1:name=systemd:/docker/SELF\n0::/\n", "SELF", ""},
	{"docker, hybrid, left beside its runtime in v2", "12:pids:/docker/SELF\n1:name=systemd:/docker/SELF\n0::/system.slice/containerd.service\n", "SELF", ""},
	{"docker, hybrid, a controller at /", "12:pids:/docker/SELF\n3:rdma:/\n1:name=systemd:/docker/SELF\n0::/system.slice/docker.service\n", "SELF", ""},
	{"docker, hybrid, systemd", "12:pids:/system.slice/docker-SELF.scope\n1:name=systemd:/system.slice/docker-SELF.scope\n0::/system.slice/docker-SELF.scope\n", "SELF", "docker"},
	{"docker, as systemd names it without its driver", "0::/system.slice:docker:SELF\n", "SELF", "docker"},
	{"docker, a build's step has an id of another kind", "0::/docker/buildkit/u5vh0hpqgv6zvpwt7xf1qsb3k\n", "", ""},
	{"docker, cgroup parent", "0::/my/parent/SELF\n", "SELF", ""},
	{"docker, systemd", "0::/system.slice/docker-SELF.scope\n", "SELF", "docker"},
	{"docker, systemd, init moved", "0::/system.slice/docker-SELF.scope/init.scope\n", "SELF", "docker"},
	{"docker, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-SELF.scope\n", "SELF", "docker"},
	{"docker, only name=systemd elsewhere", "5:pids:/docker/SELF\n1:name=systemd:/system.slice/docker.service\n", "SELF", ""},
	{"docker, rootless, cgroupfs", "0::/user.slice/user-1000.slice/user@1000.service/docker.service/docker/SELF\n", "SELF", ""},
	{"buildkit", "0::/system.slice/buildkit-SELF.scope\n", "SELF", "buildkit"},
	{"buildkit in colons", "0::/system.slice:buildkit:SELF\n", "SELF", "buildkit"},
	{"podman, v1", "5:pids:/machine.slice/libpod-SELF.scope\n1:name=systemd:/machine.slice/libpod-SELF.scope\n0::/machine.slice/libpod-SELF.scope\n", "SELF", "libpod"},
	{"podman, below a unit (Quadlet)", "0::/system.slice/web.service/libpod-payload-SELF\n", "SELF", "libpod"},
	{"podman, below a user's unit", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-SELF\n", "SELF", "libpod"},
	{"podman, below a unit, conmon", "0::/system.slice/web.service/runtime\n", "", ""},
	{"podman", "0::/machine.slice/libpod-SELF.scope/container\n", "SELF", "libpod"},
	{"podman, cgroupfs", "0::/libpod_parent/libpod-SELF\n", "SELF", "libpod"},
	{"podman, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-SELF.scope/container\n", "SELF", "libpod"},
	{"podman, rootless, pod", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_VICTIM.slice/libpod-SELF.scope\n", "SELF", "libpod"},
	{"podman, conmon", "0::/machine.slice/libpod-conmon-SELF.scope\n", "", ""},
	{"podman, conmon in cgroupfs", "0::/libpod_parent/libpod-conmon-SELF\n", "", ""},
	{"podman, conmon in colons", "0::/machine.slice:libpod-conmon:SELF\n", "", ""},
	{"podman, rootless, conmon", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-conmon-SELF.scope\n", "", ""},
	{"podman, only libpod may have a payload", "0::/x/docker-payload-SELF.scope\n", "", ""},
	{"podman, rootless without an id", "0::/\n", "", ""},
	{"crio", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/crio-SELF.scope\n", "SELF", "crio"},
	{"crio, container below", "0::/kubepods.slice/kubepods-pod1.slice/crio-SELF.scope/container\n", "SELF", "crio"},
	{"crio, cgroupfs", "0::/kubepods/burstable/pod12-34/crio-SELF\n", "SELF", "crio"},
	{"crio, conmon", "0::/kubepods.slice/kubepods-pod1.slice/crio-conmon-SELF.scope\n", "", ""},
	{"kubernetes, systemd, containerd", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-SELF.scope\n", "SELF", "cri-containerd"},
	{"kubernetes, systemd, docker", "0::/kubepods.slice/kubepods-pod1_2.slice/docker-SELF.scope\n", "SELF", "docker"},
	{"kubernetes, cgroupfs", "0::/kubepods/besteffort/pod12-34/SELF\n", "SELF", ""},
	{"containerd with colons", "0::/system.slice/containerd.service/kubepods-burstable-pod1_2.slice:cri-containerd:SELF\n", "SELF", "cri-containerd"},
	{"containerd with colons, at the root", "0::/kubepods-burstable-pod1_2.slice:cri-containerd:SELF\n", "SELF", "cri-containerd"},
	{"kind", "0::/docker/SELF/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1_2.slice/cri-containerd-INNER.scope\n", "SELF", ""},
	{"containerd", "0::/system.slice/containerd-SELF.scope\n", "SELF", "containerd"},
	{"nerdctl, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-SELF.scope\n", "SELF", "nerdctl"},
	{"nerdctl in colons", "0::/system.slice:nerdctl:SELF\n", "SELF", "nerdctl"},
	{"nerdctl", "0::/system.slice/nerdctl-SELF.scope\n", "SELF", "nerdctl"},
	{"ctr", "0::/default/SELF\n", "SELF", ""},
	{"ecs", "0::/ecs/7f3a/SELF\n", "SELF", ""},
	{"ecs, task of 32 digits", "9:perf_event:/ecs/0123456789abcdef0123456789abcdef/SELF\n1:name=systemd:/ecs/0123456789abcdef0123456789abcdef/SELF\n", "SELF", ""},
	{"daemon in a cgroup namespace", "0::/../SELF\n", "SELF", ""},
	{"docker in docker", "0::/docker/SELF/docker/INNER\n", "SELF", ""},
	{"docker in docker, v2 outer only", "5:pids:/docker/SELF/docker/INNER\n0::/docker/SELF\n", "SELF", ""},
	{"attacker's own docker/VICTIM", "0::/docker/SELF/docker/VICTIM\n", "SELF", ""},
	{"attacker's own scope", "0::/docker/SELF/docker-VICTIM.scope\n", "SELF", ""},
	{"attacker's own colons", "0::/docker/SELF/x:cri-containerd:VICTIM\n", "SELF", ""},
	{"docker in docker, systemd", "0::/system.slice/docker-SELF.scope/docker/INNER\n", "SELF", "docker"},
	{"podman in docker", "0::/docker/SELF/libpod_parent/libpod-INNER\n", "SELF", ""},
	{"two colons too many", "0::/a.slice:b:docker:SELF\n", "", ""},
	{"dockerd itself", "0::/system.slice/docker.service\n", "", ""},
	{"short id", "0::/docker/0123456789ab\n", "", ""},
	{"host", "12:pids:/user.slice\n0::/user.slice/user-1000.slice/session-1.scope\n", "", ""},
	{"host, init", "0::/init.scope\n", "", ""},
	{"lxc", "0::/lxc.payload.web\n", "", ""},
	{"63 digits", "0::/docker/" + strings.Repeat("a", 63) + "\n", "", ""},
	{"65 digits", "0::/docker/" + strings.Repeat("a", 65) + "\n", "", ""},
	{"upper case", "0::/docker/" + strings.Repeat("A", 64) + "\n", "", ""},
	{"unknown prefix", "0::/x/evil-SELF.scope\n", "", ""},
	{"suffix", "0::/x/docker-SELF.scope.d\n", "", ""},
	{"dead cgroup", "0::/docker/SELF (deleted)\n", "", ""},
	{"id in the middle of a name", "0::/x-SELF-y/z\n", "", ""},
}

func expand(s string) string {
	return strings.NewReplacer("SELF", self, "VICTIM", victim, "INNER", inner).Replace(s)
}

func TestContainerPatterns(t *testing.T) {
	for _, c := range patterns {
		paths, err := identity.ParseCgroup(expand(c.cgroup))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		id, runtime, err := identity.Container(paths)
		if id != expand(c.id) || runtime != c.runtime || err != nil {
			t.Errorf("%s: got %.4q %q %v, want %.4q %q", c.name, id, runtime, err, expand(c.id), c.runtime)
		}
	}
}

// Hierarchies that disagree deny: somebody moved, or was moved, half of the way.
func TestContainerContradictions(t *testing.T) {
	for _, c := range []struct{ name, cgroup string }{
		{"two containers", "5:pids:/docker/SELF\n0::/docker/VICTIM\n"},
		{"two containers, one nested", "5:pids:/docker/SELF/docker/VICTIM\n0::/docker/VICTIM\n"},
		{"container and host", "5:pids:/docker/VICTIM\n4:cpu:/user.slice\n"},
		{"container and conmon", "5:pids:/machine.slice/libpod-SELF.scope\n0::/machine.slice/libpod-conmon-SELF.scope\n"},
		{"v2 beside a runtime that is a user's", "5:pids:/docker/VICTIM\n0::/user.slice/user-1000.slice/user@1000.service/docker.service\n"},
		{"v2 below a runtime's unit", "5:pids:/docker/VICTIM\n0::/system.slice/docker.service/x\n"},
		{"controller beside a runtime", "5:pids:/docker/VICTIM\n4:cpu:/system.slice/docker.service\n"},
		{"v2 elsewhere", "5:pids:/docker/VICTIM\n0::/system.slice/x.service\n"},
	} {
		paths, err := identity.ParseCgroup(expand(c.cgroup))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 { // maps have no order
			if id, _, err := identity.Container(paths); !errors.Is(err, identity.ErrCgroup) || id != "" {
				t.Fatalf("%s: got %.4q %v", c.name, id, err)
			}
		}
		if !errors.Is(identity.ErrCgroup, iofs.ErrPermission) {
			t.Error("a refusal is no fs.ErrPermission")
		}
	}
}

func TestParseCgroup(t *testing.T) {
	got, err := identity.ParseCgroup("2:cpu,cpuacct:/a:b/c\n1:name=systemd:/x y\n0::/\n")
	want := map[string]string{"cpu,cpuacct": "/a:b/c", "name=systemd": "/x y", "": "/"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "\n", "0::\n", "0:/x\n", "nonsense", "0::relative\n", "0::/a\n0::/b\n", "0::/a\n\n"} {
		if got, err := identity.ParseCgroup(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		name, caller, init string
		id                 string
		want               bool
	}{
		{"same", "5:pids:/docker/SELF\n0::/\n", "5:pids:/docker/SELF\n0::/\n", self, true},
		{"below", "0::/docker/SELF/x/y\n", "0::/docker/SELF\n", self, true},
		{"init moved down, caller a sibling", "0::/docker/SELF\n", "0::/docker/SELF/init.scope\n", self, true},
		{"half-moved", "5:pids:/docker/SELF\n4:cpu:/docker/OTHER\n", "5:pids:/docker/SELF\n4:cpu:/docker/SELF\n", self, false},
		{"moved out of one to the root", "5:pids:/docker/SELF\n4:cpu:/\n", "5:pids:/docker/SELF\n4:cpu:/docker/SELF\n", self, false},
		{"hierarchy missing", "5:pids:/docker/SELF\n", "5:pids:/docker/SELF\n0::/docker/SELF\n", self, false},
		{"another parent", "0::/evil/docker/SELF\n", "0::/docker/SELF\n", self, false},
		{"prefix is no path", "0::/docker/SELFx\n", "0::/docker/SELF\n", self, false},
		{"init is another container", "0::/docker/SELF\n", "0::/docker/VICTIM\n", self, false},
		{"init names none", "0::/docker/SELF\n", "0::/\n", self, false},
		{"init on the host", "0::/docker/SELF\n", "0::/user.slice\n", self, false},
		{"own docker/VICTIM", "0::/docker/SELF/docker/VICTIM\n", "0::/docker/VICTIM\n", victim, false},
	} {
		caller, err1 := identity.ParseCgroup(expand(c.caller))
		init, err2 := identity.ParseCgroup(expand(c.init))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got := identity.Within(caller, init, c.id); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzCgroup(f *testing.F) {
	for _, c := range patterns {
		f.Add(expand(c.cgroup))
	}
	f.Fuzz(func(t *testing.T, text string) {
		paths, err := identity.ParseCgroup(text)
		if err != nil {
			return
		}
		id, _, err := identity.Container(paths)
		if err != nil || id == "" {
			return
		}
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Fatalf("container %q of %q", id, text)
		}
		for h, p := range paths {
			beside := h == "" && len(paths) > 1 && strings.HasPrefix(p, "/system.slice/") && strings.HasSuffix(p, ".service")
			if p != "/" && h != "name=systemd" && !beside && !strings.Contains(p, id) {
				t.Fatalf("container %q but %q is at %q", id, h, p)
			}
		}
		if !identity.Within(paths, paths, id) {
			t.Fatalf("%q is not within itself", text)
		}
	})
}
