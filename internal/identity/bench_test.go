package identity_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/identity"
)

// BenchmarkResolve attests callers of this machine: a process of the host, a thread that is not its process's first, a
// process in pid and mount namespaces of its own, and one beside nine others in a container that cgroups name. The last
// two have 40 mounts more than the host.
func BenchmarkResolve(b *testing.B) {
	b.Run("host", func(b *testing.B) { resolves(b, uint32(os.Getpid())) })
	b.Run("thread", func(b *testing.B) { resolves(b, otherThread(b)) })
	b.Run("namespace", func(b *testing.B) {
		members := box(b)
		resolves(b, members[len(members)-1])
	})
	b.Run("container", func(b *testing.B) {
		dirs := containerCgroups(b) // outlive those who move in
		members := box(b)
		moveInto(b, dirs, members)
		resolves(b, members[len(members)-1])
	})
}

// otherThread is one of ours that is not our first. It lasts as long as the test.
func otherThread(tb testing.TB) uint32 {
	tb.Helper()
	tids, end := make(chan int), make(chan struct{})
	tb.Cleanup(func() { close(end) })
	for range 2 {
		go func() {
			runtime.LockOSThread() // a thread of its own, until it ends
			tids <- unix.Gettid()
			<-end
		}()
	}
	return uint32(max(<-tids, <-tids)) // the first has the lowest number, unless numbers began anew
}

func resolves(b *testing.B, tid uint32) {
	r, err := identity.NewResolver()
	if err != nil {
		b.Fatal(err)
	}
	r.SetDevice(unix.Mkdev(0, 4711))
	b.ReportAllocs()
	before := worked()
	for b.Loop() {
		if _, err := r.Resolve(context.Background(), identity.Caller{TID: tid}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(worked()-before)/float64(b.N), "cpu-ns/op")
}

// worked is what we have had of the processors in ns: a machine that others use too changes it less than the clock's time.
func worked() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// box starts ten processes in new namespaces with 40 mounts more, and returns them, process 1 first.
func box(tb testing.TB) []uint32 {
	tb.Helper()
	const script = `d=$(mktemp -d) && mount -t tmpfs box $d && for i in $(seq 39); do mkdir $d/$i && mount -t tmpfs box $d/$i || exit; done
		for i in $(seq 9); do sleep 600 >/dev/null & done; echo started; read x`
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "--", "sh", "-c", script)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		tb.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		tb.Skip("no unshare:", err)
	}
	tb.Cleanup(func() { _, _ = in.Close(), cmd.Wait() }) // process 1 ends, and takes the others along
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		tb.Skipf("unshare needs root: %q, %v", line, err)
	}
	first := childrenOf(tb, uint32(cmd.Process.Pid))
	return append(first, childrenOf(tb, first[0])...)
}

func childrenOf(tb testing.TB, pid uint32) []uint32 {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		tb.Fatal(err)
	}
	var out []uint32
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			tb.Fatalf("children %q: %v", b, err)
		}
		out = append(out, uint32(n))
	}
	if len(out) == 0 {
		tb.Fatalf("process %d has no children", pid)
	}
	return out
}

// containerCgroups makes a cgroup that names a container in every hierarchy that allows it.
func containerCgroups(tb testing.TB) []string {
	tb.Helper()
	procs, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(procs) == 0 {
		procs = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	var out []string
	for _, p := range procs {
		dir := filepath.Join(filepath.Dir(p), "docker", strings.Repeat("e", 64))
		if os.MkdirAll(dir, 0o755) == nil {
			out = append(out, dir)
			tb.Cleanup(func() { _, _ = os.Remove(dir), os.Remove(filepath.Dir(dir)) })
		}
	}
	return out
}

// moveInto moves processes into the hierarchies that take them: cpuset of cgroup v1 does not.
func moveInto(tb testing.TB, dirs []string, pids []uint32) {
	tb.Helper()
	moved := 0
	for _, dir := range dirs {
		for _, pid := range pids {
			if os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644) == nil {
				moved++
			}
		}
	}
	if moved == 0 {
		tb.Skip("no cgroup can be made, or none entered")
	}
}
