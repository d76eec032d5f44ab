package identity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// fake is a /proc and the cgroup hierarchies that go with it. A pid namespace is a file below ns that holds the name of
// its parent; ns/pid of a process is a hard link to it, so that the inode is the namespace's identity, as the kernel's is.
type fake struct {
	t    *testing.T
	dir  string
	r    *Resolver
	pids int
}

// task is one thread of a fake.
type task struct {
	tid, tgid uint32
	start     uint64
	ns        string
	number    string   // in its pid namespace
	roots     []string // trees of our mount that its mount table holds
	cgroup    string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, dir: t.TempDir()}
	f.write("ns/host", "")
	f.r = &Resolver{proc: proc{dir: filepath.Join(f.dir, "proc"), parent: f.parent, owner: f.owner}, hostPidns: f.inode("host")}
	f.r.SetDevice(39) // 0:39
	return f
}

// parent stands in for NS_GET_PARENT, and like it fails at the outermost namespace.
func (f *fake) parent(fd int) (int, error) {
	var name [64]byte
	n, err := unix.Pread(fd, name[:], 0)
	if err != nil || n == 0 {
		return -1, unix.EPERM
	}
	return unix.Open(filepath.Join(f.dir, "ns", string(name[:n])), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// owner stands in for NS_GET_OWNER_UID: a user namespace is a file that holds its owner's uid.
func (f *fake) owner(fd int) (uint32, error) {
	var text [16]byte
	n, err := unix.Pread(fd, text[:], 0)
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(string(text[:n]), 10, 32)
	return uint32(uid), err
}

func (f *fake) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// inode is the identity of a namespace, which is made below the host's when it is not there yet.
func (f *fake) inode(ns string) uint64 {
	f.t.Helper()
	path := filepath.Join(f.dir, "ns", ns)
	if _, err := os.Stat(path); err != nil {
		f.write("ns/"+ns, "host")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		f.t.Fatal(err)
	}
	return st.Ino
}

// process adds a process in a namespace, with its number in it, and in a cgroup, and returns its pid.
func (f *fake) process(ns, number, cgroup string) uint32 {
	f.t.Helper()
	f.pids++
	pid := uint32(f.pids)
	f.task(task{pid, pid, 100, ns, number, []string{"/web"}, "0::" + cgroup + "\n"})
	return pid
}

// task writes /proc/<tid> and makes a process a member of its cgroups.
func (f *fake) task(k task) {
	f.t.Helper()
	dir := fmt.Sprintf("proc/%d/", k.tid)
	f.inode(k.ns)
	f.write(dir+"cgroup", k.cgroup)
	f.write(dir+"status", fmt.Sprintf("Name:\tx\nState:\tS (sleeping)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nNSpid:\t%d\t%s\n", k.tgid, k.tid, k.tid, k.number))
	f.write(dir+"stat", statText(k.tid, k.start))
	f.write(dir+"mountinfo", mountTable(k.roots))
	f.write(dir+"ns/.keep", "")
	if err := os.Link(filepath.Join(f.dir, "ns", k.ns), filepath.Join(f.dir, dir, "ns/pid")); err != nil {
		f.t.Fatal(err)
	}
	paths, err := ParseCgroup(k.cgroup)
	if err != nil || k.tid != k.tgid {
		return // no cgroup, or a thread: cgroup.procs lists processes
	}
	for hierarchy, path := range paths {
		f.join(hierarchy, path, k.tid)
	}
}

// join lists a process in a cgroup of a hierarchy, which is mounted if it was not.
func (f *fake) join(hierarchy, path string, pid uint32) {
	f.t.Helper()
	mount := filepath.Join("cg", "in "+hierarchy)
	if _, err := os.Stat(filepath.Join(f.dir, mount)); err != nil {
		f.r.cgroupMounts = append(f.r.cgroupMounts, filepath.Join(f.dir, mount))
	}
	procs := filepath.Join(mount, path, "cgroup.procs")
	old, _ := os.ReadFile(filepath.Join(f.dir, procs))
	f.write(procs, string(old)+fmt.Sprintln(pid))
}

// statText is a /proc/<pid>/stat of a program whose name tries to be one.
func statText(pid uint32, start uint64) string {
	return fmt.Sprintf("%d (x) R 1 (y) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, start)
}

// mountTable is a mountinfo whose entries of our device have these roots.
func mountTable(roots []string) string {
	var b strings.Builder
	b.WriteString("22 27 0:21 / /proc rw,nosuid - proc proc rw\n23 27 0:40 /web /other rw - fuse.claudefs claudefs rw\n")
	for i, r := range roots {
		fmt.Fprintf(&b, "%d 22 0:39 %s /mnt/%d rw,nosuid,nodev - fuse.claudefs claudefs rw\n", 500+i, r, i)
	}
	return b.String()
}

func (f *fake) resolve(pid uint32) (*Subject, error) {
	return f.r.Resolve(context.Background(), Caller{TID: pid})
}
