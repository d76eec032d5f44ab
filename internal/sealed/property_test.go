package sealed_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/sealed"
)

type place struct {
	kind sealed.Kind
	id   uint64
}

// Few objects, so that they meet; sizes about whole pages.
var (
	places = rapid.Custom(func(t *rapid.T) place {
		return place{sealed.Kind(rapid.IntRange(1, 2).Draw(t, "kind")), rapid.Uint64Range(0, 4).Draw(t, "id")}
	})
	letter = rapid.StringMatching(`[a-z]`)
	sizes  = rapid.SampledFrom([]int{0, 1, 10, sealed.PageSize - 1, sealed.PageSize, sealed.PageSize + 1, 5 * sealed.PageSize})
)

// compare compares all that an arena shows with what it should hold.
func compare(t *rapid.T, who string, a *sealed.Arena, want map[place][2]string) {
	t.Helper()
	for kind := range sealed.Kind(4) {
		var ids []uint64
		for id := range uint64(6) {
			parts, ok := want[place{kind, id}]
			if ok {
				ids = append(ids, id)
			}
			meta, body, found := a.Get(kind, id)
			if found != ok || string(meta) != parts[0] || string(body) != parts[1] {
				t.Fatalf("%s: object %d of kind %d is %v %.20q %.20q, want %v %.20q", who, id, kind, found, meta, body, ok, parts)
			}
			if got := a.Size(kind, id); got != len(parts[1]) {
				t.Fatalf("%s: size %d, want %d", who, got, len(parts[1]))
			}
			dest := make([]byte, 20)
			if got := string(dest[:a.ReadAt(kind, id, dest, 5)]); got != parts[1][min(5, len(parts[1])):min(25, len(parts[1]))] {
				t.Fatalf("%s: read %q", who, got)
			}
		}
		if got := a.IDs(kind); !slices.Equal(got, ids) {
			t.Fatalf("%s: ids of kind %d are %v, want %v", who, kind, got, ids)
		}
	}
}

// What the next server finds is what this one knows, after each operation.
func TestPropertyReopen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := sealed.Ordinary()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		want := map[place][2]string{}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				compare(t, "live", a, want)
				next := open(t, a)
				defer next.Close()
				compare(t, "reopened", next, want)
			},
			"put": func(t *rapid.T) {
				at := places.Draw(t, "at")
				parts := [2]string{
					strings.Repeat(letter.Draw(t, "meta"), sizes.Draw(t, "meta size")),
					strings.Repeat(letter.Draw(t, "body"), sizes.Draw(t, "body size")),
				}
				put(t, a, at.kind, at.id, parts[0], parts[1])
				want[at] = parts
			},
			"delete": func(t *rapid.T) {
				at := places.Draw(t, "at")
				a.Delete(at.kind, at.id)
				delete(want, at)
			},
			"crash": func(t *rapid.T) {
				next := open(t, a)
				_ = a.Close()
				a = next
			},
			"clear": func(t *rapid.T) {
				for at := range maps.Keys(want) {
					a.Delete(at.kind, at.id)
				}
				clear(want)
			},
		})
	})
}
