package identity

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestThreadGroup(t *testing.T) {
	for text, want := range map[string]uint32{
		"Name:\tx\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\nPid:\t4712\n": 4711,
		"Tgid:\t1\nTgid:\t2\n":                   1,
		"Name:\tTgid:\t5\nTgid:\t6\n":            6,
		"Name:\ta\\nTgid:\t5\nTgid:\t4294967295": 4294967295,
	} {
		if got, err := parseThreadGroup(text); got != want || err != nil {
			t.Errorf("%q: got %d %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "Tgid:\n", "Tgid:\t0\n", "Tgid:\t-1\n", "Tgid:\t4294967296\n", "Tgid:\t1 2\n", "XTgid:\t1\n", "tgid:\t1\n", "Name:\tx\n",
	} {
		if got, err := parseThreadGroup(bad); !errors.Is(err, errBadProc) || got != 0 {
			t.Errorf("%q: got %d %v", bad, got, err)
		}
	}
}

func TestNSpid(t *testing.T) {
	for text, want := range map[string]string{
		"Name:\tx\nNSpid:\t4711\t1\n": "1", "NSpid:\t4711\n": "4711", "NSpid:\t5\t4\t1\nNSpid:\t1\n": "1",
		"": "", "NSpid:\n": "", "Name:\tNSpid:\t1\n": "", "XNSpid:\t1\n": "",
	} {
		if got := nsPid(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzStatus holds what is read of a status to the first line that has the name.
func FuzzStatus(f *testing.F) {
	f.Add("Name:\tx\nTgid:\t4711\nNgid:\t0\nPid:\t4711\nNSpid:\t4711\t1\n")
	f.Add("Name:\tTgid: 5\nTgid:\t6\nTgid:\t7\nNSpid:\t6\n")
	f.Add("Tgid:\t4294967296\nNSpid:\n")
	f.Fuzz(func(t *testing.T, text string) {
		first := func(name string) []string {
			for _, line := range strings.Split(text, "\n") {
				if strings.HasPrefix(line, name) {
					return strings.Fields(line[len(name):])
				}
			}
			return nil
		}
		group, err := parseThreadGroup(text)
		if v := first("Tgid:"); err == nil && (len(v) != 1 || strings.TrimLeft(v[0], "0") != strconv.Itoa(int(group)) || group == 0) {
			t.Fatalf("thread group %d of %q", group, text)
		}
		got, v := nsPid(text), first("NSpid:")
		if len(v) == 0 && got != "" || len(v) > 0 && got != v[len(v)-1] {
			t.Fatalf("number %q of %q", got, text)
		}
	})
}

// FuzzStat holds what is read of a stat to the fields after the last parenthesis, whatever a program calls itself.
func FuzzStat(f *testing.F) {
	f.Add("7", " S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n")
	f.Add("a) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0", " Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 18446744073709551615 0")
	f.Add("((\n)", " S 1 2")
	f.Fuzz(func(t *testing.T, name, rest string) {
		st, err := parseStat("7 (" + name + ")" + rest)
		if strings.ContainsRune(rest, ')') {
			return // the kernel's fields have none
		}
		v := strings.Fields(rest)
		if len(v) < 20 {
			if err == nil {
				t.Fatalf("%q: %+v, want an error", rest, st)
			}
			return
		}
		want := status{state: v[0]}
		var err1, err2 error
		want.threads, err1 = strconv.ParseUint(v[17], 10, 64)
		want.start, err2 = strconv.ParseUint(v[19], 10, 64)
		if werr := errors.Join(err1, err2); (err == nil) != (werr == nil) || err == nil && st != want {
			t.Fatalf("%q: got %+v %v, want %+v %v", rest, st, err, want, werr)
		}
	})
}

// An open entry stays that of its process: when the number means another one, there is nothing to read through it.
func TestEntryEndsWithItsProcess(t *testing.T) {
	for range 100 {
		old, again := sleeper(t), (*exec.Cmd)(nil)
		pid := uint32(old.Process.Pid)
		e, err := kernel.open(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		if _, err := kernel.thread(pid, e); err != nil {
			t.Fatal(err)
		}
		_, _ = old.Process.Kill(), old.Wait()
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0); err != nil {
			t.Skip("numbers cannot be chosen:", err)
		}
		if again = sleeper(t); uint32(again.Process.Pid) != pid {
			continue // somebody else was faster
		}
		if _, err := kernel.entry(pid).start(); err != nil {
			t.Fatal(err)
		}
		if b, err := e.read("cgroup"); !errors.Is(ended(err), ErrEnded) {
			t.Errorf("read of the process that came after: %q, %v", b, err)
		}
		if _, err := kernel.thread(pid, e); !errors.Is(err, ErrEnded) {
			t.Errorf("thread: got %v", err)
		}
		if _, err := e.stat("stat"); !errors.Is(ended(err), ErrEnded) {
			t.Errorf("stat: got %v", err) // by this a remembered first process is told
		}
		return
	}
	t.Skip("no number came again")
}

// The kernel's answer is what the status says, of a process and of its other threads.
func TestGroupOf(t *testing.T) {
	self, cmd := uint32(os.Getpid()), sleeper(t)
	asked := 0
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(tasks, nil) {
		tid, want := uint32(cmd.Process.Pid), uint32(cmd.Process.Pid)
		if e != nil {
			n, _ := strconv.ParseUint(e.Name(), 10, 32)
			tid, want = uint32(n), self
		}
		got, err := kernel.threadGroup(tid, kernel.entry(tid))
		written, werr := proc{}.threadGroup(tid, kernel.entry(tid))
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that ended
		}
		if got != want || written != want || err != nil || werr != nil {
			t.Errorf("thread %d: got %d %v, status %d %v, want %d", tid, got, err, written, werr, want)
		}
		if g, err := groupOf(tid); err == nil && g == want {
			asked++
		}
	}
	if asked == 0 {
		t.Log("the kernel is older than 6.13")
	}
}

// The kernel keeps a process's number, and its entry, until its last thread has ended: what unchanged relies on.
func TestProcessOutlivesItsFirstThread(t *testing.T) {
	const script = `import ctypes, threading, time
def rest():
    print(threading.get_native_id(), flush=True)
    time.sleep(60)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall(%d, 0)`
	cmd := exec.Command("python3", "-c", fmt.Sprintf(script, unix.SYS_EXIT))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no python3:", err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	var tid uint32
	if _, err := fmt.Fscan(out, &tid); err != nil {
		t.Fatal(err)
	}
	r, err := NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	for !zombie(t, pid) {
		time.Sleep(time.Millisecond)
	}
	s, err := r.Resolve(t.Context(), Caller{TID: tid})
	if err != nil || s.PID != pid || s.Start == 0 {
		t.Errorf("got %+v, %v, want process %d", s, err, pid)
	}
	if !r.Alive(s.Process) {
		t.Error("a process with a living thread counts as ended")
	}
}

func zombie(t *testing.T, pid uint32) bool {
	t.Helper()
	b, err := kernel.entry(pid).read("stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), ") Z ")
}

// sleeper is a process that waits until the test ends.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd
}
