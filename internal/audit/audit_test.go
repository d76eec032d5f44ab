package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
)

func open(t testing.TB, path string) *audit.Log {
	t.Helper()
	l, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(t testing.TB, l *audit.Log, reasons ...string) {
	t.Helper()
	for _, r := range reasons {
		if err := l.Record(audit.Event{Action: audit.ActionRead, Outcome: audit.Allowed, Tree: "web", Reason: r}); err != nil {
			t.Fatal(err)
		}
	}
}

// written makes a log of five records, closes it and returns its lines.
func written(t testing.TB) (path string, lines [][]byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "deep", "audit.jsonl")
	l := open(t, path)
	record(t, l, "one", "two", "three", "four", "five")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines = bytes.SplitAfter(b, []byte("\n"))
	return path, lines[:len(lines)-1]
}

func verify(t testing.TB, path string) (int, []audit.Damage) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, damage, err := audit.Verify(f)
	if err != nil {
		t.Fatal(err)
	}
	return n, damage
}

func TestChain(t *testing.T) {
	path, lines := written(t)
	if n, damage := verify(t, path); n != 5 || len(damage) != 0 {
		t.Errorf("got %d records, damage %v", n, damage)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	var e audit.Event
	if err := json.Unmarshal(lines[0], &e); err != nil || e.Sequence != 1 || e.Previous != strings.Repeat("0", 64) || e.Time.IsZero() {
		t.Errorf("first record %+v, %v", e, err)
	}
}

func TestVerifyFinds(t *testing.T) {
	_, l := written(t)
	cat := func(lines ...[]byte) []byte { return slices.Concat(lines...) }
	change := func(line []byte, old, new string) []byte {
		out := bytes.Replace(line, []byte(old), []byte(new), 1)
		if bytes.Equal(out, line) {
			t.Fatalf("%q is not in %s", old, line)
		}
		return out
	}
	other := []byte(`{"seq":3,"action":"read","outcome":"allowed","prev":"` + strings.Repeat("0", 64) + "\"}\n")
	for _, c := range []struct {
		name string
		log  []byte
		n    int
		want []audit.Damage
	}{
		{"nothing", cat(l...), 5, nil},
		{"empty", nil, 0, nil},
		{"last newline missing", bytes.TrimSuffix(cat(l...), []byte("\n")), 5, nil},
		{"changed", cat(l[0], change(l[1], "two", "2wo"), l[2], l[3]), 3, []audit.Damage{{3, "does not follow the line before it"}}},
		{"changed outcome", cat(l[0], change(l[1], "allowed", "denied"), l[2]), 2, []audit.Damage{{3, "does not follow the line before it"}}},
		{"carriage return added", cat(l[0], change(l[1], "\n", "\r\n"), l[2]), 2, []audit.Damage{{3, "does not follow the line before it"}}},
		{"space added", cat(l[0], change(l[1], "{", "{ "), l[2]), 2, []audit.Damage{{3, "does not follow the line before it"}}},
		{"dropped", cat(l[0], l[2], l[3]), 2, []audit.Damage{{2, "does not follow the line before it"}}},
		{"first dropped", cat(l[1], l[2]), 1, []audit.Damage{{1, "does not follow the line before it"}}},
		{"two exchanged", cat(l[0], l[2], l[1], l[3]), 1, []audit.Damage{{2, "does not follow the line before it"}, {3, "does not follow the line before it"}, {4, "does not follow the line before it"}}},
		{"doubled", cat(l[0], l[1], l[1], l[2]), 3, []audit.Damage{{3, "does not follow the line before it"}}},
		{"inserted", cat(l[0], l[1], other, l[2]), 2, []audit.Damage{{3, "does not follow the line before it"}, {4, "does not follow the line before it"}}},
		{"blank line", cat(l[0], []byte("\n"), l[1]), 1, []audit.Damage{{2, "not a record"}, {3, "does not follow the line before it"}}},
		{"half a line", cat(l[0], l[1][:20], []byte("\n"), l[2]), 1, []audit.Damage{{2, "not a record"}, {3, "does not follow the line before it"}}},
		{"half a line at the end", cat(l[0], l[1][:20]), 1, []audit.Damage{{2, "not a record"}}},
		{"long line", cat(l[0], bytes.Repeat([]byte("x"), 300<<10)), 1, []audit.Damage{{2, "longer than any record; what follows was not read"}}},
		{"joined lines", cat(l[0], bytes.TrimSuffix(l[1], []byte("\n")), l[2]), 1, []audit.Damage{{2, "not a record"}}},
	} {
		n, got, err := audit.Verify(bytes.NewReader(c.log))
		if n != c.n || err != nil {
			t.Errorf("%s: %d records, %v; want %d", c.name, n, err, c.n)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// A number that was changed together with every hash behind it still shows.
func TestVerifyFindsANumber(t *testing.T) {
	_, l := written(t)
	one := bytes.Replace(l[0], []byte(`"seq":1`), []byte(`"seq":7`), 1)
	if _, got, _ := audit.Verify(bytes.NewReader(one)); len(got) != 1 || got[0].Reason != "has number 7 after 0" {
		t.Errorf("got %v", got)
	}
}

func TestResume(t *testing.T) {
	path, _ := written(t)
	l := open(t, path)
	record(t, l, "six")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, damage := verify(t, path); n != 6 || len(damage) != 0 {
		t.Errorf("got %d records, damage %v", n, damage)
	}
}

// A crash leaves a part of a record, of any length. It stays as it is, takes a number, and the chain goes on.
func TestResumeAfterCrash(t *testing.T) {
	_, lines := written(t)
	whole := slices.Concat(lines[:4]...)
	last := lines[4]
	for cut := range len(last) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, append(bytes.Clone(whole), last[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path)
		record(t, l, "after", "later")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		n, got := verify(t, path)
		var want []audit.Damage
		wantN := 6
		switch {
		case cut == len(last)-1: // all but the newline: a whole record
			wantN = 7
		case cut > 0:
			want = []audit.Damage{{5, "not a record"}}
		}
		if diff := cmp.Diff(want, got); diff != "" || n != wantN {
			t.Fatalf("cut at %d: %d records, want %d\n%s", cut, n, wantN, diff)
		}
		var e audit.Event
		b, _ := os.ReadFile(path)
		ls := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		if err := json.Unmarshal(ls[len(ls)-1], &e); err != nil || e.Sequence != uint64(len(ls)) {
			t.Fatalf("cut at %d: last record has number %d, line %d, %v", cut, e.Sequence, len(ls), err)
		}
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	path, _ := written(t)
	l := open(t, path)
	before := descriptors(t)
	for range 5 {
		if _, err := audit.Open(path); !errors.Is(err, os.ErrExist) {
			t.Errorf("got %v, want exists", err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := audit.Open(dir); err == nil {
		t.Error("a directory was opened")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(filepath.Join(file, "audit.jsonl")); err == nil {
		t.Error("below a file")
	}
}

// A full disk: the record fails, says so, and once there is room the chain goes on whole.
func TestRecordFailureLeavesTheChainUsable(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mount a small tmpfs:", err)
		}
		t.Skip("needs root to mount a small tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "audit.jsonl")
	l := open(t, path)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	fits := 0
	var err error
	for ; err == nil && fits < 1000; fits++ {
		err = l.Record(audit.Event{Action: audit.ActionRead, Reason: strings.Repeat("x", 300)})
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v after %d records, want no space", err, fits)
	}
	if err := l.Record(audit.Event{Action: audit.ActionRead}); err == nil {
		t.Fatal("recorded on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	record(t, l, "room again", "and again")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, damage := verify(t, path)
	for _, d := range damage {
		if d.Reason != "not a record" {
			t.Errorf("got %v", damage)
		}
	}
	if len(damage) > 1 {
		t.Errorf("more than the half-written line: %v", damage)
	}
}

func TestRecordRefusesTooLong(t *testing.T) {
	path, _ := written(t)
	l := open(t, path)
	if err := l.Record(audit.Event{Action: audit.ActionRead, Reason: strings.Repeat("x", 70<<10)}); err == nil {
		t.Error("accepted")
	}
	record(t, l, "after")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, damage := verify(t, path); n != 6 || len(damage) != 0 {
		t.Errorf("got %d records, damage %v", n, damage)
	}
}

func TestRecordAfterClose(t *testing.T) {
	path, _ := written(t)
	l := open(t, path)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(audit.Event{Action: audit.ActionRead}); err == nil {
		t.Error("recorded after Close")
	}
}

func TestConcurrentRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				record(t, l, fmt.Sprint(i, "-", j))
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, damage := verify(t, path); n != 400 || len(damage) != 0 {
		t.Errorf("got %d records, damage %v", n, damage)
	}
}

func TestRead(t *testing.T) {
	path, lines := written(t)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":6,"acti`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	var reasons []string
	var raw []byte
	err = audit.Read(context.Background(), path, false, func(e audit.Event, line []byte) error {
		reasons, raw = append(reasons, e.Reason), append(raw, line...)
		return nil
	})
	if want := []string{"one", "two", "three", "four", "five"}; err != nil || !slices.Equal(reasons, want) {
		t.Errorf("got %q, %v", reasons, err)
	}
	if !bytes.Equal(raw, slices.Concat(lines...)) {
		t.Error("lines are not as in the file")
	}
	stop := errors.New("stop")
	if err := audit.Read(context.Background(), path, false, func(audit.Event, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := audit.Read(context.Background(), path+"x", false, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFollow(t *testing.T) {
	path, _ := written(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan string, 16)
	done := make(chan error, 1)
	go func() {
		done <- audit.Read(ctx, path, true, func(e audit.Event, _ []byte) error { got <- e.Reason; return nil })
	}()
	want := func(reasons ...string) {
		t.Helper()
		for _, r := range reasons {
			if g := <-got; g != r {
				t.Fatalf("got %q, want %q", g, r)
			}
		}
	}
	want("one", "two", "three", "four", "five")
	l := open(t, path)
	record(t, l, "six")
	want("six")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// A record that arrives in two parts is one record.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []string{`{"seq":7,"reason":"sev`, "en\"}\n"} {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
	}
	want("seven")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
}

func TestDescribe(t *testing.T) {
	var e audit.Event
	e.Describe(identity.Caller{TID: 7, UID: 0}, nil, nil)
	if e.UID == nil || *e.UID != 0 || e.TID != 7 || e.Container != "" {
		t.Errorf("got %+v", e)
	}
	e.Describe(identity.Caller{TID: 7}, &identity.Subject{Container: "c", Exe: "/bin/x"}, &identity.Facts{Name: "n", Image: "i"})
	if e.Container != "c" || e.Exe != "/bin/x" || e.Name != "n" || e.Image != "i" {
		t.Errorf("got %+v", e)
	}
}

func FuzzVerify(f *testing.F) {
	_, lines := written(f)
	f.Add(slices.Concat(lines...))
	f.Add(slices.Concat(lines[1:]...))
	f.Add([]byte("{}\n\n{\"seq\":1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, damage, err := audit.Verify(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(b, []byte("\n"))
		if len(b) > 0 && b[len(b)-1] != '\n' {
			lines++
		}
		if n+len(damage) > lines {
			t.Fatalf("%d records and %d damages in %d lines", n, len(damage), lines)
		}
		// Whatever is there, a log goes on from it, and what it adds is whole.
		dir, err := os.MkdirTemp("/dev/shm", "claudefs-audit") // Close syncs, which a disk takes its time for
		if err != nil {
			t.Skip(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "log")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path)
		record(t, l, "x", "y")
		_ = l.Close()
		read := 0
		if err := audit.Read(context.Background(), path, false, func(audit.Event, []byte) error { read++; return nil }); err != nil {
			t.Fatal(err)
		}
		n2, damage2 := verify(t, path)
		if read < n2 || n2 < 1 {
			t.Fatalf("%d records verified, %d read", n2, read)
		}
		if n2 != n+2 || len(damage2) != len(damage) {
			t.Fatalf("%d records and %v became %d and %v", n, damage, n2, damage2)
		}
	})
}
