package policy_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/policy"
)

var update = flag.Bool("update", false, "write the golden error texts")

func corpus(t testing.TB, kind string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + kind + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("corpus %s: %d files, %v", kind, len(files), err)
	}
	return files
}

func TestParseAccepts(t *testing.T) {
	for _, file := range corpus(t, "ok") {
		if _, err := policy.Load(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestBuiltinsParse(t *testing.T) {
	for _, name := range policy.BuiltinNames {
		p, err := policy.Load(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := p.Rules[0].Allow.Level, policy.Level(name); got != want {
			t.Errorf("%s: level %q", name, got)
		}
	}
	if _, ok := policy.Builtin("../decide"); ok {
		t.Error("a builtin outside of its directory")
	}
}

// The whole text is golden: it is what a person corrects the file by.
func TestParseRefuses(t *testing.T) {
	for _, file := range corpus(t, "bad") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = policy.Parse("policy.yaml", b)
			if err == nil {
				t.Fatal("accepted")
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Files that are too large for the corpus. Each must be refused soon: the parser's time grows with the square of the
// number of tokens.
func TestParseRefusesSoon(t *testing.T) {
	nested := func(one string, n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat(" ", i) + one + "\n")
		}
		return b.String()
	}
	for _, c := range []struct{ name, text, want string }{
		{"2 MiB", "version: 1\n" + strings.Repeat("# comment\n", 2<<20/10), "bytes, at most"},
		{"lines", strings.Repeat("#\n", 9000), "lines, at most"},
		{"line", "a: " + strings.Repeat("x", 5000), "line of"},
		{"brackets", "rules: " + strings.Repeat("[", 4000), "nested too deeply"},
		{"brackets over lines", strings.Repeat("{a:\n", 100), "nested too deeply"},
		{"brackets after closing ones", strings.Repeat("]", 3000) + "\n" + strings.Repeat("[", 50), "nested too deeply"},
		{"keys", strings.Repeat("a: 1\n", 7900), "already defined"},
		{"tags", strings.Repeat(strings.Repeat("!a ", 1000)+"\n", 20) + "x", ""},
		{"anchors", "a: " + strings.Repeat("&a ", 1300), ""},
		{"colons", strings.Repeat("a: ", 1300), ""},
		{"dashes", strings.Repeat("- ", 2000) + "a", ""},
		{"block mappings", nested("a:", 700), ""},
		{"block lists", nested("-", 700), ""},
		{"nul", "version: 1\x00\n", "policy.yaml:1:11: not text"},
		{"binary", "\x7fELF\x02\x01\x01", "policy.yaml:1:1: not text"},
		{"latin-1", "version: 1\n# caf\xe9\n", "policy.yaml:2:6: not text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := policy.Parse("policy.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.200v, want %q", err, c.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if err != nil && len(err.Error()) > 4000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestLoadNamesMissingFile(t *testing.T) {
	_, err := policy.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, kind := range []string{"ok", "bad"} {
		for _, file := range corpus(f, kind) {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Parse("p", b)
		if err != nil {
			return
		}
		if bad := badKey(b); bad != "" {
			t.Fatalf("accepted key %s in %q", bad, b)
		}
		if p.Version != 1 || len(p.Rules) == 0 {
			t.Fatalf("accepted %+v", p)
		}
	})
}
