package fs

import (
	"maps"
	"slices"
	"testing"

	"github.com/claudefs/claudefs/internal/ledger"
)

// heldNames are kept descriptors, by name.
type heldNames map[string]bool

func (h heldNames) Keep(name string, _ int) error { h[name] = true; return nil }
func (h heldNames) Drop(name string)              { delete(h, name) }
func (h heldNames) Take(string) (int, bool)       { return 0, false }
func (h heldNames) Has(name string) bool          { return h[name] }
func (h heldNames) Names() []string               { return slices.Sorted(maps.Keys(h)) }

// A file that nobody has open is kept from one sweep to the next and no longer; one that is open, until it is closed.
func TestSweep(t *testing.T) {
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	idle, used := ledger.Key{Ino: 1, Gen: 1, Type: regular}, ledger.Key{Ino: 2, Gen: 1, Type: regular}
	var handle uint64
	for _, k := range []ledger.Key{idle, used} {
		n, err := l.Add(ledger.Node{Key: k}, ledger.Name{Parent: 1, Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if k == used {
			if handle, err = l.Open(ledger.Handle{Node: n.ID}, 2); err != nil {
				t.Fatal(err)
			}
		}
	}
	held := heldNames{orphanName(idle, "web"): true, orphanName(used, "web"): true, "fuse": true}
	c, s := &Config{Ledger: l, Orphans: held}, sweeping{}
	for i, want := range []int{3, 2, 2} {
		if s.sweep(c); len(held) != want {
			t.Errorf("sweep %d leaves %v, want %d", i, held.Names(), want)
		}
	}
	l.Release(handle)
	for i, want := range []int{2, 1} {
		if s.sweep(c); len(held) != want {
			t.Errorf("sweep %d after the close leaves %v, want %d", i, held.Names(), want)
		}
	}
}
