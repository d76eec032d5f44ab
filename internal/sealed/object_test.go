package sealed_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claudefs/claudefs/internal/sealed"
)

const draft = sealed.KindDraft

func TestObjects(t *testing.T) {
	big := strings.Repeat("b", 3*sealed.PageSize+1)
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, a *sealed.Arena)
		want map[uint64]string
	}{
		{"none", func(*testing.T, *sealed.Arena) {}, nil},
		{"one", func(t *testing.T, a *sealed.Arena) { put(t, a, draft, 1, "meta", "body") }, map[uint64]string{1: "meta|body"}},
		{"empty", func(t *testing.T, a *sealed.Arena) { put(t, a, draft, 0, "", "") }, map[uint64]string{0: "|"}},
		{"only meta", func(t *testing.T, a *sealed.Arena) { put(t, a, draft, 1, "meta", "") }, map[uint64]string{1: "meta|"}},
		{"whole pages", func(t *testing.T, a *sealed.Arena) { put(t, a, draft, 1, "m", big[:2*sealed.PageSize-1]) }, map[uint64]string{1: "m|" + big[:2*sealed.PageSize-1]}},
		{"several", func(t *testing.T, a *sealed.Arena) {
			put(t, a, draft, 2, "m2", big)
			put(t, a, draft, 1, "m1", "one")
			put(t, a, draft, 1<<64-1, "m3", "three")
		}, map[uint64]string{1: "m1|one", 2: "m2|" + big, 1<<64 - 1: "m3|three"}},
		{"replaced", func(t *testing.T, a *sealed.Arena) {
			put(t, a, draft, 1, "old", big)
			put(t, a, draft, 1, "new", "short")
		}, map[uint64]string{1: "new|short"}},
		{"replaced by a larger", func(t *testing.T, a *sealed.Arena) {
			put(t, a, draft, 1, "old", "short")
			put(t, a, draft, 2, "other", "other")
			put(t, a, draft, 1, "new", big)
		}, map[uint64]string{1: "new|" + big, 2: "other|other"}},
		{"deleted", func(t *testing.T, a *sealed.Arena) {
			put(t, a, draft, 1, "m", "b")
			put(t, a, draft, 2, "m", "b")
			a.Delete(draft, 1)
			a.Delete(draft, 1)
			a.Delete(draft, 3)
		}, map[uint64]string{2: "m|b"}},
		{"of another kind", func(t *testing.T, a *sealed.Arena) {
			put(t, a, sealed.KindKey, 1, "k", "key")
			put(t, a, draft, 1, "d", "draft")
			a.Delete(sealed.KindKey, 1)
		}, map[uint64]string{1: "d|draft"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := fresh(t)
			tc.do(t, a)
			for who, a := range map[string]*sealed.Arena{"live": a, "reopened": reopened(t, a)} {
				var ids []uint64
				for _, id := range []uint64{0, 1, 2, 3, 1<<64 - 1} {
					want, ok := tc.want[id]
					if !ok {
						want = "none"
					} else {
						ids = append(ids, id)
					}
					if got := get(a, draft, id); got != want {
						t.Errorf("%s: object %d is %.40q, want %.40q", who, id, got, want)
					}
					if got := a.Size(draft, id); ok && got != len(want)-strings.Index(want, "|")-1 || !ok && got != 0 {
						t.Errorf("%s: object %d has %d bytes", who, id, got)
					}
				}
				if got := a.IDs(draft); !slices.Equal(got, ids) {
					t.Errorf("%s: ids %v, want %v", who, got, ids)
				}
			}
		})
	}
}

func TestReadAt(t *testing.T) {
	a := fresh(t)
	put(t, a, draft, 1, "meta", "0123456789")
	for _, tc := range []struct {
		id   uint64
		n    int
		off  int64
		want string
	}{
		{1, 20, 0, "0123456789"},
		{1, 3, 0, "012"},
		{1, 3, 8, "89"},
		{1, 3, 9, "9"},
		{1, 3, 10, ""},
		{1, 3, 1<<63 - 1, ""},
		{1, 3, -1, ""},
		{1, 0, 0, ""},
		{2, 3, 0, ""},
	} {
		dest := make([]byte, tc.n)
		if got := string(dest[:a.ReadAt(draft, tc.id, dest, tc.off)]); got != tc.want {
			t.Errorf("%d bytes of %d at %d: %q, want %q", tc.n, tc.id, tc.off, got, tc.want)
		}
	}
}

// What Get returns is the caller's: it neither follows the object nor changes it.
func TestGetCopies(t *testing.T) {
	a := fresh(t)
	put(t, a, draft, 1, "meta", "body")
	meta, body, _ := a.Get(draft, 1)
	a.Delete(draft, 1)
	if string(meta) != "meta" || string(body) != "body" {
		t.Errorf("after Delete: %q, %q", meta, body)
	}
	put(t, a, draft, 1, "meta", "body")
	meta, body, _ = a.Get(draft, 1)
	meta[0], body[0] = 'x', 'x'
	if got := get(a, draft, 1); got != "meta|body" {
		t.Errorf("got %q", got)
	}
}

func TestFullPages(t *testing.T) {
	a := sealed.Small(t)
	half := strings.Repeat("h", a.Pages()/2*sealed.PageSize)
	put(t, a, draft, 1, "", half)
	put(t, a, draft, 2, "", half[:len(half)/2])
	for id, want := range map[uint64]string{1: "|" + half, 3: "none"} {
		// In place of itself too: until the new one is there the old one has to stay.
		if err := a.Put(draft, id, nil, []byte(half)); !errors.Is(err, sealed.ErrFull) {
			t.Errorf("put %d: %v, want ErrFull", id, err)
		}
		if got := get(a, draft, id); got != want {
			t.Errorf("object %d is %.20q, want %.20q", id, got, want)
		}
	}
	a.Delete(draft, 2)
	put(t, a, draft, 1, "", half[1:])
	put(t, reopened(t, a), draft, 3, "", half[1:])
	if err := a.Put(draft, 4, nil, make([]byte, sealed.SmallSize)); !errors.Is(err, sealed.ErrFull) {
		t.Errorf("larger than the arena: %v, want ErrFull", err)
	}
}

// Holes between objects are found whatever their size and place.
func TestHoles(t *testing.T) {
	a := sealed.Small(t)
	page := strings.Repeat("p", sealed.PageSize)
	for id := range uint64(a.Pages()) {
		put(t, a, draft, id, "", page)
	}
	for _, size := range []uint64{1, 2, 63, 64, 65, 128, 200} {
		for _, at := range []uint64{0, 1, 63, 64, 100, 127, uint64(a.Pages()) - size} {
			for id := at; id < at+size; id++ {
				a.Delete(draft, id)
			}
			if err := a.Put(sealed.KindLock, 1, nil, make([]byte, (size+1)*sealed.PageSize)); !errors.Is(err, sealed.ErrFull) {
				t.Fatalf("%d pages in a hole of %d at %d: %v", size+1, size, at, err)
			}
			put(t, a, sealed.KindLock, 1, "", strings.Repeat(page, int(size)))
			a.Delete(sealed.KindLock, 1)
			for id := at; id < at+size; id++ {
				put(t, a, draft, id, "", page)
			}
		}
	}
	for id := range uint64(a.Pages()) {
		if got := get(a, draft, id); got != "|"+page {
			t.Fatalf("object %d is %.20q", id, got)
		}
	}
}

func TestFullEntries(t *testing.T) {
	a := fresh(t)
	for id := range uint64(sealed.Entries) {
		put(t, a, draft, id, "", "x")
	}
	for _, id := range []uint64{0, sealed.Entries} {
		if err := a.Put(draft, id, nil, []byte("y")); !errors.Is(err, sealed.ErrFull) {
			t.Errorf("put %d: %v, want ErrFull", id, err)
		}
	}
	next := reopened(t, a)
	if got := get(next, draft, 0); got != "|x" || len(next.IDs(draft)) != sealed.Entries {
		t.Errorf("got %q of %d", got, len(next.IDs(draft)))
	}
	next.Delete(draft, 5)
	put(t, next, draft, 0, "", "y")
}

func TestNewID(t *testing.T) {
	a := fresh(t)
	seen := map[uint64]bool{0: true}
	for i := range 100 {
		id := a.NewID()
		if seen[id] || id >= 1<<24 {
			t.Fatalf("id %d, seen %v", id, seen[id])
		}
		if seen[id] = true; i%10 == 0 {
			a = reopened(t, a)
		}
	}
}

// Old bytes are nowhere in the memory once an object is replaced or deleted.
func TestWiped(t *testing.T) {
	secret := "sk-ant-" + strings.Repeat("secret", 2000)
	for _, tc := range []struct {
		name string
		do   func(a *sealed.Arena)
	}{
		{"deleted", func(a *sealed.Arena) { a.Delete(draft, 1) }},
		{"replaced", func(a *sealed.Arena) { put(t, a, draft, 1, "m", "short") }},
		{"replaced by nothing", func(a *sealed.Arena) { put(t, a, draft, 1, "", "") }},
		{"left twice by a writer that was killed", func(a *sealed.Arena) {
			put(t, a, draft, 1, "", "new")
			a.Duplicate(draft, 1, []byte(secret))
			if !bytes.Contains(a.Mem(), []byte("secret")) {
				t.Fatal("nothing to wipe")
			}
			if got := get(reopened(t, a), draft, 1); got != "|new" {
				t.Errorf("got %.20q, want the newer", got)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := sealed.Small(t)
			put(t, a, draft, 1, "meta-secret", secret)
			put(t, a, draft, 2, "", "stays")
			if !bytes.Contains(a.Mem(), []byte("meta-secret")) || !bytes.Contains(a.Mem(), []byte(secret)) {
				t.Fatal("the object is not where the test looks")
			}
			tc.do(a)
			for _, s := range []string{"secret", "sk-ant", "meta-"} {
				if i := bytes.Index(a.Mem(), []byte(s)); i >= 0 {
					t.Errorf("%q is at %d", s, i)
				}
			}
			if got := get(reopened(t, a), draft, 2); got != "|stays" {
				t.Errorf("the other is %q", got)
			}
		})
	}
}

// Readers see an object whole, old or new, while it is replaced.
func TestConcurrent(t *testing.T) {
	a := fresh(t)
	body := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 100+i%7*3000) }
	put(t, a, draft, 1, "", body(0))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if w == 0 {
					put(t, a, draft, 1, "", body(i))
					a.Stamp()
					continue
				}
				_, b, ok := a.Get(draft, 1)
				if !ok || len(bytes.Trim(b, string(b[:1]))) != 0 {
					t.Errorf("torn: %v %.40q", ok, b)
				}
				dest := make([]byte, 20000)
				if dest = dest[:a.ReadAt(draft, 1, dest, 0)]; len(dest) < 100 || len(bytes.Trim(dest, string(dest[:1]))) != 0 {
					t.Errorf("torn: %.40q", dest)
				}
				_, _, _ = a.Size(draft, 1), a.IDs(draft), a.NewID()
			}
		})
	}
	wg.Wait()
}
