package identity

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzComponent holds the taking apart to a pattern that says the same.
func FuzzComponent(f *testing.F) {
	pattern := regexp.MustCompile(`^(?:(docker|libpod|libpod-payload|crio|cri-containerd|containerd|nerdctl|buildkit)-)?([0-9a-f]{64})(?:\.scope)?$`)
	for _, part := range []string{
		"SELF", "docker-SELF.scope", "libpod-payload-SELF", "libpod-conmon-SELF.scope", "SELF.scope.scope", "-SELF", "aSELF", "docker-payload-SELF",
		"SELF\n", ".scope", "payload-SELF", "libpod-" + strings.Repeat("a", 63), strings.Repeat("A", 64),
		strings.Repeat("a", 63) + "/", strings.Repeat("a", 32) + "-" + strings.Repeat("a", 31),
	} {
		f.Add(ids.Replace(part))
	}
	f.Fuzz(func(t *testing.T, part string) {
		id, runtime := component(part)
		wantID, wantRuntime := "", ""
		if m := pattern.FindStringSubmatch(part); m != nil {
			wantID, wantRuntime = m[2], strings.TrimSuffix(m[1], "-payload")
		}
		if id != wantID || runtime != wantRuntime {
			t.Fatalf("%q: got %q %q, want %q %q", part, id, runtime, wantID, wantRuntime)
		}
	})
}

// FuzzClaim: a claim is the first component that names a container, its prefix ends with it, and nothing below it
// changes the answer, nor the pod.
func FuzzClaim(f *testing.F) {
	for _, path := range []string{
		"/", "/docker/SELF", "/docker/SELF/docker/VICTIM", "/docker/SELF/kubepods/podPOD/VICTIM", "/machine.slice/libpod-conmon-SELF.scope",
		"/system.slice/web.service/libpod-payload-SELF", "/kubepods.slice/kubepods-podP_D.slice/crio-SELF.scope/container",
		"/kubepods/burstable/podPOD/SELF", "/kubepods-podP_D.slice:cri-containerd:SELF", "/a.slice:b:docker:VICTIM", "/a.slice::SELF", "SELF",
	} {
		f.Add(ids.Replace(path), ids.Replace("docker-VICTIM.scope"))
	}
	f.Fuzz(func(t *testing.T, path, below string) {
		id, runtime, prefix := claim(path)
		if id == "" {
			if runtime != "" || prefix != "" || podAbove(prefix) != "" {
				t.Fatalf("%q: no container, but %q %q", path, runtime, prefix)
			}
			return
		}
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || strings.Contains(runtime, "conmon") {
			t.Fatalf("%q: container %q of %q", path, id, runtime)
		}
		last := prefix[strings.LastIndexByte(prefix, '/')+1:]
		if path != prefix && !strings.HasPrefix(path, prefix+"/") || !strings.HasSuffix(strings.TrimSuffix(last, ".scope"), id) {
			t.Fatalf("%q: prefix %q does not end with container %q", path, prefix, id)
		}
		if i := strings.LastIndexByte(prefix, '/'); i > 0 {
			if above, _, _ := claim(prefix[:i]); above != "" {
				t.Fatalf("%q: %q is not the outermost", path, id)
			}
		}
		if i, r, p := claim(prefix + "/" + below); i != id || r != runtime || p != prefix {
			t.Fatalf("%q: with %q below: got %q %q %q", path, below, i, r, p)
		}
		whole, err1 := Pod(map[string]string{"": path})
		mine, err2 := Pod(map[string]string{"": prefix})
		if whole != mine || err1 != nil || err2 != nil {
			t.Fatalf("%q: pod %q, without what is below %q", path, whole, mine)
		}
	})
}
