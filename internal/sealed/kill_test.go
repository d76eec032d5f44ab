package sealed_test

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
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/sealed"
)

// Descriptors of the writer: the arena, and the pipe on which it says what it does.
const (
	writerArena = 3
	writerPipe  = 4
)

const objects = 4

// content is an object of a generation, up to 30 pages; each byte tells the generation. Generation 0 is no object.
func content(gen uint64) []byte {
	body := bytes.Repeat(fmt.Appendf(nil, "%016x", gen), 1+int(gen*2654435761%8000))
	return body[:len(body)-int(gen%16)]
}

// childPut SEED replaces and deletes objects until it is killed, with a line before and after each.
func childPut(seed string) error {
	n, _ := strconv.ParseUint(seed, 10, 64)
	a, err := sealed.Open(writerArena)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(n, 1))
	for gen := n << 32; ; {
		id := rng.Uint64N(objects)
		next := uint64(0)
		if rng.IntN(4) > 0 {
			gen++
			next = gen
		}
		if _, err = unix.Write(writerPipe, fmt.Appendf(nil, "may %d %d\n", id, next)); err != nil {
			return err
		}
		if next == 0 {
			a.Delete(draft, id)
		} else if err = a.Put(draft, id, fmt.Append(nil, next), content(next)); err != nil {
			return err
		}
		if _, err = unix.Write(writerPipe, fmt.Appendf(nil, "is %d %d\n", id, next)); err != nil {
			return err
		}
	}
}

// said is what a writer had said of the objects when it was killed: what each is, and what one perhaps is already.
type said struct {
	is    [objects]uint64
	may   map[uint64]uint64
	lines int
}

func listen(r io.Reader, is [objects]uint64) *said {
	s := &said{is: is, may: map[uint64]uint64{}}
	for lines := bufio.NewScanner(r); lines.Scan(); s.lines++ {
		f := strings.Fields(lines.Text())
		id, _ := strconv.ParseUint(f[1], 10, 64)
		gen, _ := strconv.ParseUint(f[2], 10, 64)
		if f[0] == "may" {
			s.may[id] = gen
		} else {
			s.is[id] = gen
			delete(s.may, id)
		}
	}
	return s
}

// check demands each object old or new, and returns which.
func (s *said) check(t *testing.T, a *sealed.Arena) (is [objects]uint64) {
	t.Helper()
	for id := range uint64(objects) {
		meta, body, ok := a.Get(draft, id)
		gen, _ := strconv.ParseUint(string(meta), 10, 64)
		may, changing := s.may[id]
		if gen != s.is[id] && !(changing && gen == may) {
			t.Fatalf("object %d is of generation %d, want %d or %d (%v)", id, gen, s.is[id], may, changing)
		}
		if ok != (gen != 0) || ok && !bytes.Equal(body, content(gen)) {
			t.Fatalf("object %d of generation %d is mixed: %.40q, %d bytes", id, gen, body, len(body))
		}
		is[id] = gen
	}
	return is
}

// A writer that is killed at any instruction leaves each object old or new, and nothing of what it had under way.
func TestKilledWriter(t *testing.T) {
	const kills = 200
	a := sealed.Small(t)
	put(t, a, sealed.KindKey, 0, "", "the vault key")
	rng := rand.New(rand.NewPCG(1, 2))
	var is [objects]uint64
	lines, changed, zeros := 0, 0, make([]byte, sealed.PageSize)
	for i := range uint64(kills) {
		s := killed(t, a.FD(), i+1, is, rng)
		lines += s.lines
		next := open(t, a)
		is = s.check(t, next)
		for id, gen := range s.may {
			if is[id] == gen {
				changed++
			}
		}
		if got := get(next, sealed.KindKey, 0); got != "|the vault key" {
			t.Fatalf("an object that nobody touched is %q", got)
		}
		next.Free(func(page []byte) {
			if !bytes.Equal(page, zeros) {
				t.Fatalf("kill %d left %.40q", i, bytes.TrimLeft(page, "\x00"))
			}
		})
		_ = next.Close()
	}
	t.Logf("%d lines, %d of %d kills just after a change", lines, changed, kills)
}

// killed runs a writer on an arena and kills it a moment after its first line.
func killed(t *testing.T, fd int, seed uint64, is [objects]uint64, rng *rand.Rand) *said {
	t.Helper()
	mine, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(mine), "arena")
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "child-put", strconv.FormatUint(seed, 10))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f, w}, &stderr
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	first, heard := bufio.NewReader(r), make(chan *said, 1)
	_, err = first.Peek(1)
	go func() { heard <- listen(first, is) }()
	after := time.NewTimer(time.Duration(rng.Int64N(int64(4 * time.Millisecond))))
	defer after.Stop()
	<-after.C
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("writer %d ended by itself: %v %s", seed, err, stderr.String())
	}
	return <-heard
}
