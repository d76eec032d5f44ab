package fdstore_test

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// refusals makes a keeper's file, and what opens a store as the next server has it.
func refusals(t *testing.T) (*os.File, func() *fdstore.Store) {
	t.Helper()
	f, err := fdstore.NewRefusals()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, func() *fdstore.Store {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fdstore.New(map[string]int{fdstore.Refusals: fd}, "")
	}
}

func refuse(t *testing.T, f *os.File, list ...fdstore.Refused) {
	t.Helper()
	if err := fdstore.AppendRefused(f, list...); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	a := fdstore.Refused{Opcode: fdstore.OpForget, ID: 1<<63 + 5, Count: 3}
	b := fdstore.Refused{Opcode: fdstore.OpRelease, ID: 1<<32 + 7}
	c := fdstore.Refused{Opcode: 14, ID: 246}
	f, server := refusals(t)
	s := server()
	take := func(s *fdstore.Store, want ...fdstore.Refused) {
		t.Helper()
		if got := slices.Collect(s.Refused()); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	take(s)
	refuse(t, f)
	refuse(t, f, a, b)
	take(s, a, b)
	take(s)
	refuse(t, f, c) // the keeper goes on while a server takes
	take(s, c)
	refuse(t, f, b, c, a)
	for range s.Refused() {
		break // the server dies while it does what it was told first
	}
	take(server(), c, a)
	take(fdstore.New(map[string]int{}, ""))
}

// What was taken takes no memory, however much there was.
func TestRefusedMemory(t *testing.T) {
	f, server := refusals(t)
	const rounds, each = 20, 1000
	var want uint64
	for round := range rounds {
		var list []fdstore.Refused
		for i := range each {
			list = append(list, fdstore.Refused{Opcode: fdstore.OpForget, ID: uint64(round*each + i), Count: 1})
		}
		refuse(t, f, list...)
		for r := range server().Refused() {
			if r.ID != want || r.Count != 1 {
				t.Fatalf("got %v, want node %d", r, want)
			}
			want++
		}
	}
	if want != rounds*each {
		t.Errorf("got %d, want %d", want, rounds*each)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 > 2*4096 {
		t.Errorf("%d bytes are in use, %v", st.Blocks*512, err)
	}
}

// A list that is damaged or empty is none, and the position that both sides share is left alone.
func TestRefusedDamaged(t *testing.T) {
	for _, size := range []int64{0, 8, 31, 33, 63} {
		f, server := refusals(t)
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if got := slices.Collect(server().Refused()); len(got) != 0 {
			t.Errorf("%d bytes: got %v", size, got)
		}
		if pos, err := f.Seek(0, 1); err != nil || pos != 0 {
			t.Errorf("position is %d, %v", pos, err)
		}
	}
}
