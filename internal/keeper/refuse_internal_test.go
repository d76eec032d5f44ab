package keeper

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// Kinds of requests, as FUSE numbers them.
const (
	opLookup  = 1
	opGetattr = 3
	opOpen    = 14
	opRead    = 15
	opFlush   = 25
	opInit    = 26
)

// hand is a file system that the test serves by hand, request by request. Each name of one letter is a file, whose
// node is the letter. Its caller is a shell: a caller in this process could deadlock with it.
type hand struct {
	t      *testing.T
	device int
	dir    string
	shell  io.Writer
	said   *bufio.Reader
}

type asked struct {
	op           uint32
	unique, node uint64
	body         []byte
}

func byHand(t *testing.T) *hand {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	h := &hand{t: t, dir: t.TempDir()}
	h.startShell()
	var err error
	if h.device, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(h.device) }) // before the shell's end, which would wait for an answer
	if err := unix.Mount("hand", h.dir, "fuse.hand", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", h.device)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(h.dir, unix.MNT_DETACH) })
	init := make([]byte, 64)
	for i, word := range []uint32{7, 36, 1 << 17, 1, 0, 1 << 17} { // version, readahead, FUSE_ASYNC_READ, max_write
		binary.LittleEndian.PutUint32(init[4*i:], word)
	}
	h.answer(h.until(opInit), 0, init)
	return h
}

func (h *hand) startShell() {
	h.t.Helper()
	cmd := exec.Command("sh")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		h.t.Fatal("no shell")
	}
	h.shell, h.said = stdin, bufio.NewReader(stdout)
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// run gives the shell a line and does not wait.
func (h *hand) run(line string) {
	h.t.Helper()
	if _, err := io.WriteString(h.shell, line+"\n"); err != nil {
		h.t.Fatal(err)
	}
}

// hear reads a line that the shell says.
func (h *hand) hear() string {
	h.t.Helper()
	heard := make(chan string, 1)
	go func() {
		line, _ := h.said.ReadString('\n')
		heard <- line
	}()
	select {
	case text := <-heard:
		return text
	case <-time.After(5 * time.Second):
		h.t.Fatal("the shell hangs")
		return ""
	}
}

// read reads a request that comes soon.
func (h *hand) read() (q asked, ok bool) {
	fds := []unix.PollFd{{Fd: int32(h.device), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 2000); err != nil || n == 0 {
		return q, false
	}
	b := make([]byte, bufferSize)
	n, err := unix.Read(h.device, b)
	if err != nil || n < headerSize {
		return q, false
	}
	return asked{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), b[headerSize:n]}, true
}

// until serves until a request of a kind comes, which it leaves without an answer.
func (h *hand) until(op uint32) asked {
	h.t.Helper()
	for {
		q, ok := h.read()
		if !ok {
			h.t.Fatalf("no request of kind %d comes", op)
		}
		if q.op == op {
			return q
		}
		h.serve(q)
	}
}

func (h *hand) answer(q asked, errno unix.Errno, body []byte) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.LittleEndian.AppendUint32(b, ^uint32(errno)+1)
	_, _ = unix.Write(h.device, append(binary.LittleEndian.AppendUint64(b, q.unique), body...))
}

func (h *hand) serve(q asked) {
	attr := func(node uint64) []byte {
		mode := uint32(unix.S_IFREG | 0o644)
		if node == 1 {
			mode = unix.S_IFDIR | 0o755
		}
		b := make([]byte, 88)
		binary.LittleEndian.PutUint64(b, node)
		binary.LittleEndian.PutUint64(b[8:], 1<<20)
		binary.LittleEndian.PutUint32(b[60:], mode)
		binary.LittleEndian.PutUint32(b[64:], 1)
		return b
	}
	switch q.op {
	case opLookup:
		node := uint64(q.body[0])
		entry := binary.LittleEndian.AppendUint64(nil, node)
		h.answer(q, 0, slices.Concat(entry, make([]byte, 32), attr(node)))
	case opGetattr:
		h.answer(q, 0, append(make([]byte, 16), attr(q.node)...))
	case opOpen: // the handle is the request's number
		h.answer(q, 0, append(binary.LittleEndian.AppendUint64(nil, q.unique), make([]byte, 8)...))
	case opFlush, fdstore.OpRelease:
		h.answer(q, 0, nil)
	case fdstore.OpForget, opForgets, opInterrupt:
	default:
		h.answer(q, unix.ENOSYS, nil)
	}
}

// drop has the kernel forget a name, and with it the node.
func (h *hand) drop(name string) {
	h.t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+16+len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, 3) // FUSE_NOTIFY_INVAL_ENTRY
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	if _, err := unix.Write(h.device, append(append(b, name...), 0)); err != nil {
		h.t.Fatal("drop", name, err)
	}
}

// stat looks files up, so that the kernel knows their nodes.
func (h *hand) stat(names string) {
	h.t.Helper()
	for _, name := range names {
		h.run("test -f " + h.dir + "/" + string(name) + "; echo $?")
		h.serve(h.until(opLookup))
		for range 2 { // its attributes are good for no time
			if q, ok := h.peek(); ok {
				h.serve(q)
			}
		}
		if got := h.hear(); got != "0\n" {
			h.t.Fatalf("stat: %q", got)
		}
	}
}

// peek reads a request if one comes at once.
func (h *hand) peek() (asked, bool) {
	fds := []unix.PollFd{{Fd: int32(h.device), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 100); err != nil || n == 0 {
		return asked{}, false
	}
	return h.read()
}

// keeper is one that holds the mount and has no server.
func (h *hand) keeper() (*Keeper, func() []fdstore.Refused) {
	h.t.Helper()
	notes, err := fdstore.NewRefusals()
	if err != nil {
		h.t.Fatal(err)
	}
	device, err1 := unix.FcntlInt(uintptr(h.device), unix.F_DUPFD_CLOEXEC, 3)
	list, err2 := unix.FcntlInt(notes.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err1 != nil || err2 != nil {
		h.t.Fatal(err1, err2)
	}
	k := &Keeper{
		cfg:  Config{Log: slog.New(slog.DiscardHandler)},
		held: holder{fdstore.Device: os.NewFile(uintptr(device), "device"), fdstore.Refusals: notes},
	}
	h.t.Cleanup(func() {
		k.stopRefusing()
		k.held.close()
		_ = unix.Close(list)
	})
	store := fdstore.New(map[string]int{fdstore.Refusals: list}, "")
	return k, func() []fdstore.Refused { return slices.Collect(store.Refused()) }
}

// await takes until there are as many as wanted, and compares.
func await(t *testing.T, take func() []fdstore.Refused, want ...fdstore.Refused) {
	t.Helper()
	var got []fdstore.Refused
	for end := time.Now().Add(5 * time.Second); len(got) < len(want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		got = append(got, take()...)
	}
	slices.SortFunc(got, func(a, b fdstore.Refused) int { return int(a.ID) - int(b.ID) })
	if !slices.Equal(got, want) {
		t.Errorf("noted %v, want %v", got, want)
	}
}

// The lookups that the kernel forgets while no server runs are kept for the next one.
func TestRefusedForgets(t *testing.T) {
	for _, tc := range []struct {
		names string
		want  []fdstore.Refused
	}{
		{"a", []fdstore.Refused{{Opcode: fdstore.OpForget, ID: 'a', Count: 1}}},
		{"abc", []fdstore.Refused{
			{Opcode: fdstore.OpForget, ID: 'a', Count: 1},
			{Opcode: fdstore.OpForget, ID: 'b', Count: 1},
			{Opcode: fdstore.OpForget, ID: 'c', Count: 1},
		}},
	} {
		h := byHand(t)
		h.stat(tc.names)
		k, noted := h.keeper()
		for _, name := range tc.names {
			h.drop(string(name)) // before the refusal reads: several come as one request
		}
		k.refuse()
		await(t, noted, tc.want...)
	}
}

// So are the handles that are closed, before or after the server died; nobody waits for them to be.
func TestRefusedReleases(t *testing.T) {
	h := byHand(t)
	h.run("exec 3<" + h.dir + "/a")
	a := h.until(opOpen)
	h.serve(a)
	h.run("exec 4<" + h.dir + "/b; echo open")
	b := h.until(opOpen)
	h.serve(b)
	h.run("exec 3<&-")
	h.until(fdstore.OpRelease) // the server dies before it did anything
	k, noted := h.keeper()
	k.refuse()
	h.run("exec 4<&-")
	await(t, noted, fdstore.Refused{Opcode: fdstore.OpRelease, ID: b.unique})
	k.recall()
	await(t, noted, fdstore.Refused{Opcode: fdstore.OpRelease, ID: a.unique})
}

// More handles are closed than the kernel sends without an answer: reads are still refused, and at once.
func TestRefusedManyReleases(t *testing.T) {
	h := byHand(t)
	const many = 20 // max_background is 12
	for range many {
		h.run("sleep 20 <" + h.dir + "/a & all=\"$all $!\"")
	}
	h.run("exec 3<" + h.dir + "/b")
	var want []fdstore.Refused
	for range many + 1 {
		q := h.until(opOpen)
		h.serve(q)
		if q.node == 'a' {
			want = append(want, fdstore.Refused{Opcode: fdstore.OpRelease, ID: q.unique})
		}
	}
	k, noted := h.keeper()
	k.refuse()
	h.run("kill $all")
	h.run("cat <&3 2>&1 >/dev/null; echo $?")
	await(t, noted, want...)
	if got := h.hear(); got != "cat: -: Input/output error\n" {
		t.Errorf("got %q", got)
	}
}

// A request that a dead server had read, and may have noted something for, is reported; one that none has seen is not.
func TestRefusedRequests(t *testing.T) {
	h := byHand(t)
	h.run("cat " + h.dir + "/a 2>&1")
	q := h.until(opOpen)
	k, noted := h.keeper()
	k.refuse()
	k.recall()
	await(t, noted, fdstore.Refused{Opcode: opOpen, ID: q.unique})
	if got := h.hear(); got != "cat: "+h.dir+"/a: Input/output error\n" {
		t.Errorf("got %q", got)
	}
	h.run("cat " + h.dir + "/b 2>&1")
	if got := h.hear(); got != "cat: "+h.dir+"/b: Input/output error\n" {
		t.Errorf("got %q", got)
	}
	if got := noted(); len(got) != 0 {
		t.Errorf("noted %v of what no server has seen", got)
	}
}

// A request that a server took back before the refusal had answered is the server's.
func TestRefusedTooLate(t *testing.T) {
	h := byHand(t)
	k, noted := h.keeper()
	request := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(request[4:], opOpen)
	binary.LittleEndian.PutUint64(request[8:], 1000|resent) // none that is with this device
	r := &refusal{device: h.device, notes: k.held[fdstore.Refusals]}
	r.take(request)
	if got := noted(); len(got) != 0 {
		t.Errorf("noted %v", got)
	}
}

// What servers read and left is sent again each time that one has died, not only when refusing begins.
func TestRecallAgain(t *testing.T) {
	h := byHand(t)
	k, noted := h.keeper()
	k.refuse()
	k.recall()
	k.stopRefusing()
	h.run("cat " + h.dir + "/a 2>&1")
	q := h.until(opLookup) // another server, which dies before it has said that it serves
	k.refuse()
	k.recall()
	if got := noted(); len(got) != 0 {
		t.Errorf("noted %v although nothing was to be sent again", got)
	}
	k.recalled = false // as when a server was started
	k.recall()
	await(t, noted, fdstore.Refused{Opcode: opLookup, ID: q.unique})
}

// Requests that cannot be read are no reason to turn in circles: the mount is aborted, and once.
func TestRefusalFails(t *testing.T) {
	h := byHand(t)
	k, _ := h.keeper()
	abort, err := os.CreateTemp(t.TempDir(), "abort")
	if err != nil {
		t.Fatal(err)
	}
	k.held[fdstore.Abort] = abort
	k.refuse()
	k.refusal.ended <- unix.EINVAL
	for range 3 {
		k.refuse()
	}
	if b, _ := os.ReadFile(abort.Name()); string(b) != "1" {
		t.Errorf("aborted %d times", len(b))
	}
}
