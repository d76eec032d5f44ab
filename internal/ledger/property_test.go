package ledger_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/ledger"
)

// world is what a ledger should hold.
type world struct {
	nodes    map[uint64]*entry
	keys     map[ledger.Key]uint64
	children map[ledger.Name]uint64
	handles  map[uint64]ledger.Handle
	given    map[uint64]bool // handles that were ever given
	lastID   uint64
}

type entry struct {
	node    ledger.Node
	lookups uint64
	names   []ledger.Name
}

func newWorld() *world {
	return &world{
		nodes: map[uint64]*entry{}, keys: map[ledger.Key]uint64{}, children: map[ledger.Name]uint64{},
		handles: map[uint64]ledger.Handle{}, given: map[uint64]bool{}, lastID: 1,
	}
}

func (w *world) unname(at ledger.Name) {
	if e := w.nodes[w.children[at]]; e != nil {
		e.names = slices.DeleteFunc(e.names, func(x ledger.Name) bool { return x == at })
	}
	delete(w.children, at)
}

func (w *world) name(id uint64, at ledger.Name) {
	if at.Name == "" || slices.Contains(w.nodes[id].names, at) {
		return
	}
	w.unname(at)
	w.nodes[id].names = append(w.nodes[id].names, at)
	w.children[at] = id
}

func (w *world) forget(id, n uint64) (gone bool) {
	e := w.nodes[id]
	if e == nil {
		return false
	}
	if e.lookups > n {
		e.lookups -= n
		return false
	}
	for _, at := range slices.Clone(e.names) {
		w.unname(at)
	}
	delete(w.nodes, id)
	if w.keys[e.node.Key] == id {
		delete(w.keys, e.node.Key)
	}
	return true
}

func (w *world) openHandles(node uint64) (n int) {
	for _, h := range w.handles {
		if h.Node == node {
			n++
		}
	}
	return n
}

// Few names, inodes and parents, so that they meet.
var (
	inodes = rapid.Uint64Range(1, 4)
	parent = rapid.Uint64Range(1, 3)
	base   = rapid.SampledFrom([]string{"", "a", "b", "c", "d"})
	place  = rapid.Custom(func(t *rapid.T) ledger.Name {
		return ledger.Name{Parent: parent.Draw(t, "parent"), Name: base.Draw(t, "base")}
	})
)

// machine applies each operation to a ledger and to a world.
type machine struct {
	l         *ledger.Ledger
	w         *world
	compacted int
}

func (m *machine) some(t *rapid.T) uint64 {
	ids := slices.Sorted(maps.Keys(m.w.nodes))
	if len(ids) == 0 {
		t.Skip("no node")
	}
	return rapid.SampledFrom(ids).Draw(t, "node")
}

func (m *machine) Add(t *rapid.T) {
	n := ledger.Node{
		Key:  ledger.Key{Ino: inodes.Draw(t, "ino"), Gen: rapid.Uint64Range(0, 1).Draw(t, "gen"), Type: 0o100000},
		Tree: rapid.Uint64Range(0, 2).Draw(t, "tree"), Size: rapid.Uint64().Draw(t, "size"), MTime: rapid.Int64().Draw(t, "mtime"),
	}
	at := place.Draw(t, "at")
	got := add(t, m.l, n, at.Parent, at.Name)
	if got.ID <= m.w.lastID {
		t.Fatalf("id %d after %d", got.ID, m.w.lastID)
	}
	m.w.lastID, n.ID = got.ID, got.ID
	n.Tree = cmp.Or(n.Tree, got.ID)
	m.w.nodes[n.ID] = &entry{node: n, lookups: 1}
	m.w.keys[n.Key] = n.ID
	m.w.name(n.ID, at)
}

func (m *machine) Again(t *rapid.T) {
	id, at := m.some(t), place.Draw(t, "at")
	n, _ := m.l.Node(id)
	if err := m.l.Again(n, at); err != nil {
		t.Fatal(err)
	}
	m.w.nodes[id].lookups++
	m.w.name(id, at)
}

func (m *machine) Forget(t *rapid.T) {
	id, n := m.some(t), rapid.Uint64Range(0, 3).Draw(t, "lookups")
	if got, want := m.l.Forget(id, n), m.w.forget(id, n); got != want {
		t.Fatalf("forget %d of node %d: gone %v, want %v", n, id, got, want)
	}
}

func (m *machine) Remove(t *rapid.T) {
	at := place.Draw(t, "at")
	m.l.Remove(at)
	m.w.unname(at)
}

func (m *machine) Rename(t *rapid.T) {
	from, to := place.Draw(t, "from"), place.Draw(t, "to")
	exchange := rapid.Bool().Draw(t, "exchange")
	if from.Name == "" || to.Name == "" {
		t.Skip("no name")
	}
	if err := m.l.Rename(from, to, exchange); err != nil {
		t.Fatal(err)
	}
	moved, other := m.w.children[from], m.w.children[to]
	m.w.unname(from)
	m.w.unname(to)
	if moved != 0 {
		m.w.name(moved, to)
	}
	if other != 0 && exchange {
		m.w.name(other, from)
	}
}

// Churn fills the records with what is gone; every few times they are compacted.
func (m *machine) Churn(t *rapid.T) {
	half := m.l.Half()
	at := ledger.Name{Parent: 99, Name: strings.Repeat("c", 1000)}
	for range 400 {
		n := add(t, m.l, ledger.Node{Key: ledger.Key{Ino: 99}}, at.Parent, at.Name)
		m.w.lastID = n.ID
		m.l.Forget(n.ID, 1)
	}
	if m.l.Half() != half {
		m.compacted++
	}
}

func (m *machine) Open(t *rapid.T) {
	h := ledger.Handle{
		Node: rapid.Uint64Range(1, 5).Draw(t, "node"), Flags: rapid.Uint32().Draw(t, "flags"),
		Object: rapid.Uint32().Draw(t, "object"), Dir: rapid.Bool().Draw(t, "dir"),
	}
	fh, err := m.l.Open(h, 7)
	if err != nil {
		t.Fatal(err)
	}
	if fh == 0 || m.w.given[fh] {
		t.Fatalf("handle %d was given before", fh)
	}
	m.w.handles[fh], m.w.given[fh] = h, true
}

func (m *machine) Release(t *rapid.T) {
	all := slices.Sorted(maps.Keys(m.w.given))
	if len(all) == 0 {
		t.Skip("no handle")
	}
	fh := rapid.SampledFrom(all).Draw(t, "fh") // perhaps a second time
	want, open := m.w.handles[fh]
	if got, ok := m.l.Release(fh); ok != open || got != want {
		t.Fatalf("release %d: %v %v, want %v %v", fh, got, ok, want, open)
	}
	delete(m.w.handles, fh)
}

// Crash goes on with what the next server finds.
func (m *machine) Crash(t *rapid.T) {
	next := open(t, m.l)
	if err := m.l.Close(); err != nil {
		t.Fatal(err)
	}
	m.l = next
}

func (m *machine) check(t *rapid.T) {
	m.w.compare(t, "live", m.l)
	next := open(t, m.l)
	defer next.Close()
	m.w.compare(t, "reopened", next)
}

func (w *world) compare(t *rapid.T, who string, l *ledger.Ledger) {
	t.Helper()
	if got := l.Nodes(); got != len(w.nodes) {
		t.Fatalf("%s: %d nodes, want %d", who, got, len(w.nodes))
	}
	for id, e := range w.nodes {
		n, ok := l.Node(id)
		if !ok {
			t.Fatalf("%s: node %d is gone", who, id)
		}
		if n.ID != id || n.Key != e.node.Key || n.Tree != e.node.Tree || n.Size != e.node.Size || n.MTime != e.node.MTime {
			t.Fatalf("%s: node %+v, want %+v", who, n, e.node)
		}
		if got := l.Names(n); !slices.Equal(got, e.names) {
			t.Fatalf("%s: names of %d are %v, want %v", who, id, got, e.names)
		}
		if got := l.Lookups(id); got != e.lookups {
			t.Fatalf("%s: node %d has %d lookups, want %d", who, id, got, e.lookups)
		}
	}
	w.comparePlaces(t, who, l)
	w.compareHandles(t, who, l)
}

func (w *world) comparePlaces(t *rapid.T, who string, l *ledger.Ledger) {
	t.Helper()
	for ino := range uint64(5) {
		for gen := range uint64(2) {
			k := ledger.Key{Ino: ino, Gen: gen, Type: 0o100000}
			if got, want := l.Find(k), w.keys[k]; got != want {
				t.Fatalf("%s: key %v is of node %d, want %d", who, k, got, want)
			}
		}
	}
	for p := range uint64(4) {
		for _, s := range []string{"", "a", "b", "c", "d"} {
			var got uint64
			if n := l.Child(p, s); n != nil {
				got = n.ID
			}
			if want := w.children[ledger.Name{Parent: p, Name: s}]; got != want {
				t.Fatalf("%s: child %d %.5s is %d, want %d", who, p, s, got, want)
			}
		}
	}
}

func (w *world) compareHandles(t *rapid.T, who string, l *ledger.Ledger) {
	t.Helper()
	got := map[uint64]ledger.Handle{}
	l.Handles(func(fh uint64, h ledger.Handle, unique uint64) {
		if got[fh] = h; unique != 7 {
			t.Errorf("%s: handle %d opened by %d, want 7", who, fh, unique)
		}
	})
	if !maps.Equal(got, w.handles) {
		t.Fatalf("%s: handles %v, want %v", who, got, w.handles)
	}
	for node := range uint64(6) {
		if got, want := l.OpenHandles(node), w.openHandles(node); got != want {
			t.Fatalf("%s: %d open handles of %d, want %d", who, got, node, want)
		}
	}
}

// What the next server finds is what this one knows, after each operation.
func TestPropertyReopen(t *testing.T) {
	compactions := 0
	rapid.Check(t, func(t *rapid.T) {
		l, err := ledger.New()
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{l: l, w: newWorld()}
		defer func() { _ = m.l.Close(); compactions += m.compacted }()
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "add": m.Add, "again": m.Again, "forget": m.Forget, "remove": m.Remove, "rename": m.Rename,
			"churn": m.Churn, "open": m.Open, "release": m.Release, "crash": m.Crash,
		})
	})
	if compactions == 0 {
		t.Error("nothing was compacted: the test shows nothing about it")
	}
}
