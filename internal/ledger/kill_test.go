package ledger_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
)

// Descriptors of the writer: the ledger, and the pipe on which it says what it has done.
const (
	writerLedger = 3
	writerPipe   = 4
)

// childWrite SEED changes the ledger, and says what is sure to be found in it, until it is killed: a line before a
// change takes an assurance back, one after it gives another.
func childWrite(seed string) error {
	n, _ := strconv.ParseUint(seed, 10, 64)
	l, err := ledger.Open(writerLedger)
	if err != nil {
		return err
	}
	w := &writer{l: l, rng: rand.New(rand.NewPCG(n, 1)), next: n << 32, unique: n << 32}
	for {
		if err := w.step(); err != nil {
			return err
		}
	}
}

type writer struct {
	l            *ledger.Ledger
	rng          *rand.Rand
	next, unique uint64
	live         []*ledger.Node
	names        []string
	handles      []uint64
}

// live nodes are so many that a compaction takes a while, and kills hit it.
const writerNodes = 200

func (w *writer) say(format string, args ...any) error {
	_, err := unix.Write(writerPipe, fmt.Appendf(nil, format+"\n", args...))
	return err
}

func (w *writer) step() error {
	switch i := w.rng.IntN(10); {
	case i < 6 || len(w.live) == 0:
		if len(w.live) >= writerNodes {
			return w.forget()
		}
		return w.add()
	case i < 8:
		return w.rename()
	case i == 8:
		return w.handle()
	default:
		return w.journal()
	}
}

// longName is a name that fills the records.
func longName(i uint64) string { return strconv.FormatUint(i, 10) + strings.Repeat("-", 1000) }

func (w *writer) add() error {
	w.next++
	name := longName(w.next)
	n, err := w.l.Add(ledger.Node{Key: ledger.Key{Ino: w.next}}, ledger.Name{Parent: 1, Name: name})
	if err != nil {
		return err
	}
	w.live, w.names = append(w.live, n), append(w.names, name)
	return w.say("node %d %d %d", n.ID, w.next, w.next)
}

func (w *writer) rename() error {
	i := w.rng.IntN(len(w.live))
	n := w.live[i]
	if err := w.say("moving %d", n.ID); err != nil {
		return err
	}
	w.next++
	to := longName(w.next)
	if err := w.l.Moving(n, ledger.Name{Parent: 1, Name: to}); err != nil {
		return err
	}
	if err := w.l.Rename(ledger.Name{Parent: 1, Name: w.names[i]}, ledger.Name{Parent: 1, Name: to}, false); err != nil {
		return err
	}
	w.names[i] = to
	return w.say("node %d %d %d", n.ID, n.Key.Ino, w.next)
}

func (w *writer) forget() error {
	i, last := w.rng.IntN(len(w.live)), len(w.live)-1
	n := w.live[i]
	w.live[i], w.names[i] = w.live[last], w.names[last]
	w.live, w.names = w.live[:last], w.names[:last]
	err := w.say("forget %d", n.ID)
	w.l.Forget(n.ID, 1)
	return err
}

func (w *writer) handle() error {
	if len(w.handles) > 20 {
		fh := w.handles[0]
		w.handles = w.handles[1:]
		err := w.say("release %d", fh)
		w.l.Release(fh)
		return err
	}
	fh, err := w.l.Open(ledger.Handle{Node: w.next, Flags: uint32(w.next)}, w.next)
	if err != nil {
		return err
	}
	w.handles = append(w.handles, fh)
	return w.say("handle %d %d", fh, w.next)
}

func (w *writer) journal() error {
	w.unique += 2
	w.l.Start(w.unique, w.unique+1)
	if err := w.say("begun %d", w.unique); err != nil {
		return err
	}
	w.l.Done(w.unique, 5)
	return w.say("done %d", w.unique)
}

// assured is what a writer had said when it was killed.
type assured struct {
	nodes   map[uint64][2]uint64 // id to inode and number in the name; 0 while it has perhaps none
	handles map[uint64]uint64
	journal map[uint64]bool // unique to done
	highest uint64          // node id that was ever given
	lines   int
}

func listen(r io.Reader) *assured {
	a := &assured{nodes: map[uint64][2]uint64{}, handles: map[uint64]uint64{}, journal: map[uint64]bool{}}
	for s := bufio.NewScanner(r); s.Scan(); a.lines++ {
		f := strings.Fields(s.Text())
		x := [3]uint64{}
		for i := range min(len(f)-1, 3) {
			x[i], _ = strconv.ParseUint(f[i+1], 10, 64)
		}
		switch f[0] {
		case "node":
			a.nodes[x[0]] = [2]uint64{x[1], x[2]}
			a.highest = max(a.highest, x[0])
		case "moving":
			a.nodes[x[0]] = [2]uint64{a.nodes[x[0]][0], 0}
		case "forget":
			delete(a.nodes, x[0])
		case "handle":
			a.handles[x[0]] = x[1]
		case "release":
			delete(a.handles, x[0])
		case "begun":
			a.journal[x[0]] = false
			delete(a.journal, x[0]-2*ledger.JournalSlots) // beyond what the journal keeps
		case "done":
			a.journal[x[0]] = true
		}
	}
	return a
}

func (a *assured) check(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	for id, want := range a.nodes {
		n, ok := l.Node(id)
		if !ok || n.Key.Ino != want[0] || l.Find(n.Key) != id {
			t.Fatalf("node %d is %v, want inode %d", id, n, want[0])
		}
		if want[1] == 0 {
			continue
		}
		at := ledger.Name{Parent: 1, Name: longName(want[1])}
		if got := l.Names(n); len(got) != 1 || got[0] != at {
			t.Fatalf("names of node %d: %.40v, want %.40v", id, got, at)
		}
	}
	for fh, node := range a.handles {
		if h, ok := l.Handle(fh); !ok || h.Node != node || h.Flags != uint32(node) {
			t.Fatalf("handle %d is %+v, want node %d", fh, h, node)
		}
	}
	for u, done := range a.journal {
		if got := l.Seen(u); !got.Begun || got.Aux != u+1 || done && !(got.Done && got.Errno == 5) {
			t.Fatalf("journal of %d: %+v, want done %v", u, got, done)
		}
	}
}

// A writer that is killed at any instruction leaves a ledger that opens, with all that it had said.
func TestKilledWriter(t *testing.T) {
	const writers, kills = 4, 50 // each on a ledger of its own
	var compactions, lines atomic.Int64
	t.Run("all", func(t *testing.T) {
		for w := range uint64(writers) {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				l := fresh(t)
				rng := rand.New(rand.NewPCG(w, 2))
				half, highest := l.Half(), uint64(1)
				for i := range uint64(kills) {
					a := killed(t, l.FD(), 1+w*kills+i, rng)
					lines.Add(int64(a.lines))
					next, before := open(t, l), highest
					a.check(t, next)
					highest = max(highest, a.highest)
					if next.Half() != half {
						half = next.Half()
						compactions.Add(1)
					}
					// What the kernel gives back, and one more: its id must be new.
					for id := before; id <= highest+1; id++ {
						next.Forget(id, 9)
					}
					if got := next.Nodes(); got != 0 {
						t.Fatalf("%d nodes that no writer made", got)
					}
					for fh := range a.handles {
						next.Release(fh)
					}
					if n := add(t, next, file(1), 1, "n"); n.ID <= highest {
						t.Fatalf("id %d after %d", n.ID, highest)
					} else {
						next.Forget(n.ID, 1)
					}
					_ = next.Close()
				}
			})
		}
	})
	t.Logf("%d lines, %d compactions between two kills", lines.Load(), compactions.Load())
	if compactions.Load() == 0 {
		t.Error("no writer compacted: the test shows nothing about it")
	}
}

// killed runs a writer on a ledger and kills it a moment after its first line.
func killed(t *testing.T, fd int, seed uint64, rng *rand.Rand) *assured {
	t.Helper()
	mine, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(mine), "ledger")
	defer f.Close()
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "child-write", strconv.FormatUint(seed, 10))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f, pw}, &stderr
	err = cmd.Start()
	_ = pw.Close()
	if err != nil {
		t.Fatal(err)
	}
	first, lines := bufio.NewReader(r), make(chan *assured, 1)
	_, err = first.Peek(1)
	go func() { lines <- listen(first) }()
	after := time.NewTimer(time.Duration(rng.Int64N(int64(12 * time.Millisecond))))
	defer after.Stop()
	<-after.C
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("writer %d ended by itself: %v %s", seed, err, stderr.String())
	}
	return <-lines
}
