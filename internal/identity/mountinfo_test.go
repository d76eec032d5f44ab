package identity_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/identity"
)

const table = `22 27 0:21 / /proc rw,nosuid - proc proc rw
500 499 0:39 /web /root/.claude rw,nosuid shared:1 - fuse.claudefs claudefs rw
501 499 0:40 /web /other rw - fuse.claudefs claudefs rw
502 499 8:1 /srv/0:39 /srv rw - ext4 /dev/sda1 rw
`

func TestParseRoots(t *testing.T) {
	for _, c := range []struct {
		name, table string
		want        []string
	}{
		{"ours among others", table, []string{"/web"}},
		{"none", "22 27 0:21 / /proc rw - proc proc rw\n", nil},
		{"whole mount", "1 2 0:39 / /all rw - fuse.claudefs claudefs rw\n", []string{"/"}},
		{"several", table + "503 499 0:39 /api /api rw - fuse.claudefs claudefs rw\n", []string{"/web", "/api"}},
		{"escaped", `1 2 0:39 /a\040b\011c\134d /x\040y rw - fuse.claudefs claudefs rw` + "\n", []string{"/a b\tc\\d"}},
		{"deleted", "1 2 0:39 /web//deleted /x rw - fuse.claudefs claudefs rw\n", []string{"/web//deleted"}},
		{"empty", "", nil},
	} {
		got, err := identity.ParseRoots(c.table, 0, 39)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"x\n", "1 2 0:39 /web\n", "1 2 zero /web /m rw - t s rw\n"} {
		if got, err := identity.ParseRoots(bad, 0, 39); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		name  string
		roots []string
		want  error
	}{
		{"own tree", []string{"/web"}, nil},
		{"own tree twice", []string{"/web", "/web"}, nil},
		{"own tree and another", []string{"/api", "/web"}, nil},
		{"directory in the tree", []string{"/web/projects"}, nil},
		{"another tree", []string{"/api"}, identity.ErrNotMounted},
		{"tree with a longer name", []string{"/web2", "/we", "/x/web", "/WEB"}, identity.ErrNotMounted},
		{"nothing", nil, identity.ErrNotMounted},
		{"whole mount", []string{"/"}, identity.ErrWholeMount},
		{"whole mount after the own tree", []string{"/web", "/"}, identity.ErrWholeMount},
		{"whole mount before the own tree", []string{"/", "/web"}, identity.ErrWholeMount},
	} {
		s := &identity.Subject{Roots: c.roots}
		if got := s.Holds("web"); !errors.Is(got, c.want) || c.want == nil && got != nil {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzParseRoots(f *testing.F) {
	f.Add(table)
	f.Add("1 2 0:39 / /all rw - fuse.claudefs claudefs rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		roots, err := identity.ParseRoots(text, 0, 39)
		if err != nil {
			return
		}
		var own int // the parser takes for 0 what is no number; the kernel writes nothing else
		for line := range strings.Lines(text) {
			if f := strings.Split(line, " "); len(f) > 2 {
				major, minor, _ := strings.Cut(f[2], ":")
				a, _ := strconv.Atoi(major)
				if b, _ := strconv.Atoi(minor); a == 0 && b == 39 {
					own++
				}
			}
		}
		if len(roots) > own {
			t.Fatalf("%d roots of our device in %q", len(roots), text)
		}
		// A tree is held by an entry of our device for itself or for a directory in it, and by nothing else.
		s := &identity.Subject{Roots: roots}
		if s.Holds("web") == nil && (slices.Contains(roots, "/") || !slices.ContainsFunc(roots, func(r string) bool {
			return strings.HasPrefix(r+"/", "/web/")
		})) {
			t.Fatalf("%q hold the tree", roots)
		}
	})
}
