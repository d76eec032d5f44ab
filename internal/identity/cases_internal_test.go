package identity

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// outcome is what a case of testdata/proc expects, by the keys of its "want" file; see testdata/proc/README.
type outcome map[string]string

var ids = strings.NewReplacer(
	"SELF", idA, "VICTIM", idB, "INNER", strings.Repeat("c", 64),
	"POD", "0b7f3c1e-8f3e-4a77-9d4f-0123456789ab", "P_D", "0b7f3c1e_8f3e_4a77_9d4f_0123456789ab",
)

// TestCases resolves the caller of every tree in testdata/proc: one for each cgroup pattern, each attack and each
// contradiction.
func TestCases(t *testing.T) {
	names, err := filepath.Glob("testdata/proc/*.txtar")
	if err != nil || len(names) < 50 {
		t.Fatalf("%d cases: %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			runCase(t, txtar.Parse([]byte(ids.Replace(string(text)))))
		})
	}
}

func runCase(t *testing.T, a *txtar.Archive) {
	files := map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	f := newFake(t)
	f.build(files)
	want := pairs(t, files["want"])
	caller := number(t, want["caller"])
	delete(want, "caller")
	if change := files["meanwhile"]; change != "" {
		f.meanwhile(caller, change)
	}
	s, err := f.resolve(caller)
	if err != nil && (!errors.Is(err, ErrDenied) || !errors.Is(err, iofs.ErrPermission)) {
		t.Errorf("%v is no refusal", err)
	}
	if diff := cmp.Diff(want, f.describe(s, err)); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
}

// build writes the trees of a case: its namespaces, its processes, and what it has of files of its own.
func (f *fake) build(files map[string]string) {
	f.t.Helper()
	for ns, parent := range pairs(f.t, files["namespaces"]) {
		f.write("ns/"+ns, parent)
	}
	for line := range strings.Lines(files["processes"]) {
		v := strings.Fields(line)
		if len(v) < 5 {
			f.t.Fatalf("process %q: want tid, tgid, start, namespace, number and roots", line)
		}
		start, err := strconv.ParseUint(v[2], 10, 64)
		if err != nil {
			f.t.Fatal(err)
		}
		f.task(task{number(f.t, v[0]), number(f.t, v[1]), start, v[3], v[4], v[5:], files[v[0]+"/cgroup"]})
	}
	for name, text := range files {
		if strings.Contains(name, "/") {
			f.write("proc/"+name, text)
		}
	}
}

// meanwhile makes something happen while the caller is being attested: its cgroup, which is read after its start
// time, is a pipe that gives its text only once the change is made.
func (f *fake) meanwhile(caller uint32, change string) {
	f.t.Helper()
	path := filepath.Join(f.r.proc.dir, fmt.Sprint(caller), "cgroup")
	text, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w, err := os.OpenFile(path, os.O_WRONLY, 0) // until the resolver reads
		if err != nil {
			f.t.Error(err)
			return
		}
		defer w.Close()
		for line := range strings.Lines(change) {
			f.change(strings.Fields(line))
		}
		if _, err := w.Write(text); err != nil {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(func() {
		if r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil { // nobody may have read
			defer r.Close()
		}
		<-done
	})
}

// change does "end PID" or "start PID TICKS".
func (f *fake) change(v []string) {
	dir := filepath.Join(f.r.proc.dir, v[1])
	var err error
	switch v[0] {
	case "end":
		err = os.RemoveAll(dir)
	case "start":
		start, _ := strconv.ParseUint(v[2], 10, 64)
		err = os.WriteFile(filepath.Join(dir, "stat"), []byte(statText(0, start)), 0o600)
	default:
		err = fmt.Errorf("unknown change %q", v)
	}
	if err != nil {
		f.t.Error(err)
	}
}

// describe says of a resolved caller what a case may expect.
func (f *fake) describe(s *Subject, err error) outcome {
	if err != nil {
		return outcome{"refused": strings.ReplaceAll(err.Error(), f.r.proc.dir, "PROC")}
	}
	got := outcome{"process": fmt.Sprint(s.PID, " ", s.Start), "tree": "web held"}
	if err := s.Holds("web"); err != nil {
		got["tree"] = "web refused: " + err.Error()
	}
	id := s.Container
	if s.Runtime == "namespace" {
		id = "of namespace " + f.namespace(s.Container)
	}
	said := outcome{"container": id, "runtime": s.Runtime, "pod": s.Pod}
	maps.DeleteFunc(said, func(_, v string) bool { return v == "" })
	maps.Copy(got, said)
	if s.Host {
		got["host"] = "yes"
	}
	return got
}

// namespace finds the name of the namespace that a container is called after.
func (f *fake) namespace(container string) string {
	entries, _ := os.ReadDir(filepath.Join(f.dir, "ns"))
	for _, e := range entries {
		if NamespaceID(f.inode(e.Name())) == container {
			return e.Name()
		}
	}
	return container
}

// pairs reads lines of a key and a value.
func pairs(t *testing.T, text string) outcome {
	t.Helper()
	out := outcome{}
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " ")
		if _, twice := out[k]; !ok || twice {
			t.Fatalf("line %q: want a key, once, and a value", line)
		}
		out[k] = v
	}
	return out
}

func number(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}
