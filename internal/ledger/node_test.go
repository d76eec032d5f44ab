package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/ledger"
)

// Each step of a story is followed by a look at the ledger and at what the next server would find.
func TestNames(t *testing.T) {
	a, b, c := ledger.Name{Parent: 1, Name: "a"}, ledger.Name{Parent: 1, Name: "b"}, ledger.Name{Parent: 9, Name: "a"}
	type names = map[uint64][]ledger.Name
	for _, tc := range []struct {
		name string
		do   func(l *ledger.Ledger, x, y *ledger.Node) error // x is 2 at a, y is 3 at b
		want names
	}{
		{"two files", func(*ledger.Ledger, *ledger.Node, *ledger.Node) error { return nil }, names{2: {a}, 3: {b}}},
		{"again under the same name", func(l *ledger.Ledger, x, _ *ledger.Node) error { return l.Again(x, a) }, names{2: {a}, 3: {b}}},
		{"hard link", func(l *ledger.Ledger, x, _ *ledger.Node) error { return l.Again(x, c) }, names{2: {a, c}, 3: {b}}},
		{"name taken over", func(l *ledger.Ledger, x, _ *ledger.Node) error { return l.Again(x, b) }, names{2: {a, b}, 3: nil}},
		{"without a name", func(l *ledger.Ledger, _, _ *ledger.Node) error {
			_, err := l.Add(file(30), ledger.Name{Parent: 1})
			return err
		}, names{2: {a}, 3: {b}, 4: nil}},
		{"remove", func(l *ledger.Ledger, _, _ *ledger.Node) error { l.Remove(a); return nil }, names{2: nil, 3: {b}}},
		{"remove one of two", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			err := l.Again(x, c)
			l.Remove(a)
			return err
		}, names{2: {c}, 3: {b}}},
		{"remove what is not there", func(l *ledger.Ledger, _, _ *ledger.Node) error { l.Remove(c); return nil }, names{2: {a}, 3: {b}}},
		{"rename", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(a, c, false) }, names{2: {c}, 3: {b}}},
		{"rename over another", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(a, b, false) }, names{2: {b}, 3: nil}},
		{"rename to itself", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(a, a, false) }, names{2: {a}, 3: {b}}},
		{"rename of what is not known over what is", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(c, b, false) }, names{2: {a}, 3: nil}},
		{"rename that failed", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			err := l.Moving(x, b)
			l.Stay(x, b)
			return err
		}, names{2: {a}, 3: {b}}},
		{"rename that was done", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			return errors.Join(l.Moving(x, b), l.Rename(a, b, false))
		}, names{2: {b}, 3: nil}},
		{"exchange under way", func(l *ledger.Ledger, x, y *ledger.Node) error {
			return errors.Join(l.Moving(x, b), l.Moving(y, a), l.Rename(a, b, true))
		}, names{2: {b}, 3: {a}}},
		{"forgotten while it is renamed", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			err := l.Moving(x, c)
			l.Forget(2, 1)
			return errors.Join(err, l.Moving(x, b))
		}, names{3: {b}}},
		{"exchange", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(a, b, true) }, names{2: {b}, 3: {a}}},
		{"exchange with what is not known", func(l *ledger.Ledger, _, _ *ledger.Node) error { return l.Rename(c, a, true) }, names{2: {c}, 3: {b}}},
		{"forget one of two lookups", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			err := l.Again(x, a)
			if l.Forget(2, 1) {
				return errors.New("gone with a lookup left")
			}
			return err
		}, names{2: {a}, 3: {b}}},
		{"forget all lookups", func(l *ledger.Ledger, x, _ *ledger.Node) error {
			err := errors.Join(l.Again(x, a), l.Again(x, c))
			if !l.Forget(2, 3) {
				return errors.New("not gone with the last lookup")
			}
			return err
		}, names{3: {b}}},
		{"forget more than there are", func(l *ledger.Ledger, _, _ *ledger.Node) error {
			if !l.Forget(2, 9) || l.Forget(2, 1) || l.Forget(99, 1) {
				return errors.New("gone is reported once, for what was there")
			}
			return nil
		}, names{3: {b}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fresh(t)
			x, y := add(t, l, file(10), 1, "a"), add(t, l, file(20), 1, "b")
			if err := tc.do(l, x, y); err != nil {
				t.Fatal(err)
			}
			for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": reopened(t, l)} {
				if got := l.Nodes(); got != len(tc.want) {
					t.Errorf("%s: %d nodes, want %d", who, got, len(tc.want))
				}
				for id, want := range tc.want {
					n, ok := l.Node(id)
					if !ok {
						t.Errorf("%s: node %d is gone", who, id)
						continue
					}
					if got := l.Names(n); !slices.Equal(got, want) {
						t.Errorf("%s: names of %d are %v, want %v", who, id, got, want)
					}
				}
				for _, at := range []ledger.Name{a, b, c} {
					var got, want uint64
					if n := l.Child(at.Parent, at.Name); n != nil {
						got = n.ID
					}
					for id, all := range tc.want {
						if slices.Contains(all, at) {
							want = id
						}
					}
					if got != want {
						t.Errorf("%s: child %v is %d, want %d", who, at, got, want)
					}
				}
			}
		})
	}
}

func TestNodeFields(t *testing.T) {
	l := fresh(t)
	tree := add(t, l, ledger.Node{Key: ledger.Key{Ino: 1 << 63, Gen: 1<<64 - 1, Type: 0o40000}}, 1, "tree")
	n := add(t, l, ledger.Node{Key: ledger.Key{Ino: 5}, Tree: tree.ID, Size: 1 << 40, MTime: -1}, tree.ID, "f")
	for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": reopened(t, l)} {
		top, ok := l.Node(tree.ID)
		if !ok || top.Tree != tree.ID || top.Key != tree.Key {
			t.Errorf("%s: tree is %+v", who, top)
		}
		got, ok := l.Node(n.ID)
		if !ok || got.Tree != tree.ID || got.Size != 1<<40 || got.MTime != -1 || got.Key != n.Key {
			t.Errorf("%s: node is %+v, want %+v", who, got, n)
		}
	}
	if got, want := n.String(), fmt.Sprintf("node %d (inode 5)", n.ID); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An inode number that comes again means another file: the newer node has the key, and the older one never gets it
// back, for the kernel would then see the old file's content.
func TestKeyReuse(t *testing.T) {
	l := fresh(t)
	older := add(t, l, file(10), 1, "old")
	newer := add(t, l, file(10), 1, "new")
	check := func(when string, want uint64) {
		t.Helper()
		for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": reopened(t, l)} {
			if got := l.Find(older.Key); got != want {
				t.Errorf("%s, %s: key is of node %d, want %d", when, who, got, want)
			}
		}
	}
	check("both there", newer.ID)
	l.Forget(newer.ID, 1)
	check("newer forgotten", 0)
	if _, ok := l.Node(older.ID); !ok {
		t.Error("the older node is gone")
	}
	third := add(t, l, file(10), 1, "third")
	check("third", third.ID)
	l.Forget(older.ID, 1)
	check("older forgotten", third.ID)
}

// Compaction writes nodes in any order, and the key stays with the newest.
func TestKeyReuseCompacted(t *testing.T) {
	for range 40 { // the order is another each time
		l := fresh(t)
		add(t, l, file(10), 1, "old")
		newer := add(t, l, file(10), 1, "new")
		compacted(t, l)
		if got := reopened(t, l).Find(newer.Key); got != newer.ID {
			t.Fatalf("key is of node %d, want %d", got, newer.ID)
		}
	}
}

// compacted adds and forgets until the records change halves.
func compacted(t fataler, l *ledger.Ledger) {
	t.Helper()
	long := strings.Repeat("x", 1000)
	for half, i := l.Half(), 0; l.Half() == half; i++ {
		if i > 1<<13 {
			t.Fatal("no compaction")
		}
		l.Forget(add(t, l, file(1<<32), 1, long).ID, 1)
	}
}

func TestCompaction(t *testing.T) {
	l := fresh(t)
	kept := add(t, l, file(10), 1, "kept")
	if err := l.Again(kept, ledger.Name{Parent: 1, Name: "link"}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // there, back, and there again
		compacted(t, l)
		for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": reopened(t, l)} {
			n, ok := l.Node(kept.ID)
			if !ok || l.Lookups(kept.ID) != 2 || len(l.Names(n)) != 2 || l.Nodes() != 1 {
				t.Fatalf("%s: node %v with %d lookups, %d nodes", who, n, l.Lookups(kept.ID), l.Nodes())
			}
		}
	}
	if l.Forget(kept.ID, 1) || !l.Forget(kept.ID, 1) {
		t.Error("lookups are not those from before the compaction")
	}
}

func TestNeverTheSameID(t *testing.T) {
	l := fresh(t)
	seen := map[uint64]bool{1: true} // the root's
	for i := range 200 {
		n := add(t, l, file(uint64(i%3)), 1, "f")
		if seen[n.ID] {
			t.Fatalf("id %d was given before", n.ID)
		}
		seen[n.ID] = true
		if i%2 == 0 {
			l.Forget(n.ID, 1)
		}
		if i%5 == 0 {
			l = reopened(t, l)
		}
		if i == 100 {
			compacted(t, l)
			last := add(t, l, file(1), 1, "f").ID
			for id := range last + 1 {
				seen[id] = true
			}
		}
	}
}

// A name that Open would call damage is refused when it is given.
func TestLongName(t *testing.T) {
	for _, tc := range []struct {
		size int
		ok   bool
	}{{255, true}, {ledger.MaxName, true}, {ledger.MaxName + 1, false}, {1<<16 + 8, false}} {
		l := fresh(t)
		at := ledger.Name{Parent: 1, Name: strings.Repeat("n", tc.size)}
		n := add(t, l, file(10), 1, "short")
		_, err1 := l.Add(file(11), at)
		err2 := l.Again(n, at)
		err3 := l.Rename(ledger.Name{Parent: 1, Name: "short"}, at, false)
		for i, err := range []error{err1, err2, err3} {
			if (err == nil) != tc.ok {
				t.Errorf("%d bytes, way %d: %v, want ok %v", tc.size, i, err, tc.ok)
			}
		}
		again := reopened(t, l)
		if m := again.Child(1, at.Name); (m != nil) != tc.ok {
			t.Errorf("%d bytes: reopened it has %v", tc.size, m)
		}
	}
}

// A full ledger refuses, and has room again once something is forgotten.
func TestFull(t *testing.T) {
	l := fresh(t)
	long := strings.Repeat("x", ledger.MaxName-8)
	var err error
	var last *ledger.Node
	for i := uint64(0); err == nil; i++ {
		var n *ledger.Node
		if n, err = l.Add(file(i), ledger.Name{Parent: 1, Name: fmt.Sprintf("%08d%s", i, long)}); err == nil {
			last = n
		}
		if i > 1<<18 {
			t.Fatal("it is never full")
		}
	}
	if !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := l.Again(last, ledger.Name{Parent: 1, Name: long}); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	l.Forget(last.ID, 1)
	add(t, l, file(1<<40), 1, long)
}

// A server that dies in a rename leaves both names, and the file that has the new one keeps it until the end.
func TestRenameUnderWay(t *testing.T) {
	a, b := ledger.Name{Parent: 1, Name: "a"}, ledger.Name{Parent: 1, Name: "b"}
	l := fresh(t)
	x, y := add(t, l, file(10), 1, "a"), add(t, l, file(11), 1, "b")
	if err := errors.Join(l.Moving(x, b), l.Moving(x, b)); err != nil {
		t.Fatal(err)
	}
	next := open(t, l)
	n, _ := next.Node(x.ID)
	if got := next.Names(n); !slices.Equal(got, []ledger.Name{a, b}) {
		t.Errorf("names are %v", got)
	}
	if got := next.Child(1, "b"); got == nil || got.ID != y.ID {
		t.Errorf("%v has the name already", got)
	}
	if err := next.Rename(a, b, false); err != nil {
		t.Fatal(err)
	}
	last := open(t, next)
	n, _ = last.Node(x.ID)
	if got := last.Names(n); !slices.Equal(got, []ledger.Name{b}) {
		t.Errorf("names after the rename are %v", got)
	}
}
