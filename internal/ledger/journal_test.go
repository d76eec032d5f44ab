package ledger_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claudefs/claudefs/internal/ledger"
)

func TestJournal(t *testing.T) {
	type outcome = ledger.Outcome
	for _, tc := range []struct {
		name string
		do   func(*ledger.Ledger)
		want outcome
	}{
		{"nothing", func(*ledger.Ledger) {}, outcome{}},
		{"begun", func(l *ledger.Ledger) { l.Start(8, 3) }, outcome{Begun: true, Aux: 3}},
		{"done", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, 0) }, outcome{Begun: true, Done: true, Aux: 3}},
		{"failed", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, 17) }, outcome{Begun: true, Done: true, Errno: 17, Aux: 3}},
		{"negative errno", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, -1) }, outcome{Begun: true, Done: true, Errno: -1, Aux: 3}},
		{"done twice", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, 17); l.Done(8, 0) }, outcome{Begun: true, Done: true, Aux: 3}},
		{"begun again", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, 17); l.Start(8, 4) }, outcome{Begun: true, Aux: 4}},
		{"only tried", func(l *ledger.Ledger) { l.Try(8, 4) }, outcome{}},
		{"done and never begun", func(l *ledger.Ledger) { l.Done(8, 17) }, outcome{}},
		{"its neighbours", func(l *ledger.Ledger) { l.Start(6, 1); l.Start(10, 2); l.Done(10, 5) }, outcome{}},
		{"one of the same place", func(l *ledger.Ledger) {
			l.Start(8, 3)
			l.Start(8+2*ledger.JournalSlots, 4)
			l.Done(8+2*ledger.JournalSlots, 9)
		}, outcome{Begun: true, Aux: 3}},
		{"a later one of the same place", func(l *ledger.Ledger) { l.Start(8, 3); l.Done(8, 1); l.Start(8+2*ledger.JournalSlots, 4) }, outcome{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fresh(t)
			tc.do(l)
			for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": reopened(t, l)} {
				if got := l.Seen(8); got != tc.want {
					t.Errorf("%s: %+v, want %+v", who, got, tc.want)
				}
			}
		})
	}
}

// What a request has cost adds up over servers, and is its own.
func TestTries(t *testing.T) {
	l := fresh(t)
	for i, tc := range []struct{ unique, weight, want uint64 }{
		{8, 4, 4},
		{8, 1, 5},
		{10, 1, 1},
		{8, 4, 9},
		{8 + 2*ledger.JournalSlots, 1, 1},
	} {
		if got := l.Try(tc.unique, tc.weight); got != tc.want {
			t.Errorf("step %d: %d, want %d", i, got, tc.want)
		}
		l.Start(tc.unique, 0)
		l = reopened(t, l)
	}
	l.Done(8, 0)
	l.Start(8, 0)
	if got := l.Try(8, 1); got != 10 {
		t.Errorf("got %d, want 10: neither its end nor its beginning makes it cost less", got)
	}
	l.Done(8, 0)
	if got := l.Try(8+4*ledger.JournalSlots, 1); got != 1 { // it gets the place
		t.Errorf("got %d, want 1: another's cost is not its own", got)
	}
}

// A request that hangs keeps its place while all others go by, and they keep theirs.
func TestJournalHung(t *testing.T) {
	const hung = 1000
	l := fresh(t)
	l.Start(hung, 1)
	for u := uint64(hung + 2); u < hung+8*ledger.JournalSlots; u += 2 {
		l.Start(u, u)
		l.Done(u, 7)
		for back := u; back > max(hung, u-64); back -= 2 {
			if got := l.Seen(back); !got.Done || got.Errno != 7 || got.Aux != back {
				t.Fatalf("after %d: %d is %+v", u, back, got)
			}
		}
	}
	if got := l.Seen(hung); !got.Begun || got.Done || got.Aux != 1 {
		t.Errorf("the hung one is %+v", got)
	}
}

// A request that is sent again and has to wait is still known after many others, and after another server's death.
func TestJournalResent(t *testing.T) {
	const late = 1000
	l := fresh(t)
	l.Start(late, 5)
	l.Done(late, 0)
	flood := func(from uint64) (next uint64) {
		for u := from; u < from+8*ledger.JournalSlots; u += 2 {
			l.Start(u, u)
			l.Done(u, 7)
		}
		return from + 8*ledger.JournalSlots
	}
	l.Resent(late)
	next := flood(late + 2)
	l = reopened(t, l)
	l.Resent(late)
	next = flood(next)
	if got := l.Seen(late); !got.Done || got.Errno != 0 || got.Aux != 5 {
		t.Errorf("before its answer it is %+v", got)
	}
	l.Done(late, 0)
	for u := next; u < next+ledger.JournalSlots/4; u += 2 {
		l.Start(u, u)
		l.Done(u, 7)
	}
	if got := l.Seen(late); !got.Done { // the answer may be lost again
		t.Errorf("soon after its answer it is %+v", got)
	}
	flood(next + ledger.JournalSlots/4)
	if got := l.Seen(late); got.Begun {
		t.Errorf("long after its answer it has its place yet: %+v", got)
	}
}

// Many requests at once, with uniques that follow each other as the kernel's do: none gets in another's way.
func TestJournalConcurrent(t *testing.T) {
	const workers, each, rounds = 100, 10, 20
	l := fresh(t)
	var last atomic.Uint64
	work := func() {
		for range each {
			u := last.Add(2)
			l.Start(u, u+1)
			if got := l.Seen(u); !got.Begun || got.Done || got.Aux != u+1 {
				t.Errorf("begun %d: %+v", u, got)
			}
			l.Try(u, 1)
			l.Done(u, int32(u%100))
			if got := l.Seen(u); !got.Done || got.Errno != int32(u%100) || got.Aux != u+1 {
				t.Errorf("done %d: %+v", u, got)
			}
		}
	}
	for range rounds { // a goroutine falls behind by less than the journal keeps
		var wg sync.WaitGroup
		for range workers {
			wg.Go(work)
		}
		wg.Wait()
	}
	// The window is there, for the next server too; less what requests that fell behind have displaced.
	next, highest := reopened(t, l), last.Load()
	for u := highest; u > highest-2*(ledger.JournalSlots-workers*each); u -= 2 {
		if got := next.Seen(u); !got.Done || got.Errno != int32(u%100) || got.Aux != u+1 {
			t.Fatalf("%d of %d: %+v", u, highest, got)
		}
	}
}

// With more hung requests at one place than are searched, the newest of them is known.
func TestJournalCrowded(t *testing.T) {
	l := fresh(t)
	var u uint64
	for i := range uint64(40) {
		u = 8 + 2*ledger.JournalSlots*i
		l.Start(u, i)
		if got := l.Seen(u); !got.Begun || got.Aux != i {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if got := l.Seen(8 + 2*ledger.JournalSlots); !got.Begun {
		t.Errorf("one of another place was displaced: %+v", got)
	}
	if got := reopened(t, l).Seen(u); !got.Begun {
		t.Errorf("the newest is %+v", got)
	}
}
