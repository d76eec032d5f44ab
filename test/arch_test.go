// Package test holds what the whole repository has to keep to.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/claudefs/claudefs"

// never is the import table: what a package must not reach, by itself or through other packages of ours. Names
// without a dot in the first element are ours or the standard library's.
var never = []struct {
	pkg   string
	never []string
	why   string
}{
	{"fs", []string{"vault", "refresh", "policy", "internal/audit", "internal/broker", "internal/container"}, "a node cannot decide or hold a token; it gets bytes"},
	{"internal/audit", []string{"vault", "refresh", "fs"}, "the log cannot spell a token"},
	{"policy", []string{"vault", "refresh", "fs", "internal/container", "net", "net/http", "os/exec"}, "pure: same input, same decision"},
	{"vault", []string{"refresh", "policy", "internal/identity", "net/http"}, "storage knows no network and no callers"},
	{"refresh", []string{"fs", "policy", "internal/identity", "internal/broker"}, "a grant does not depend on who asked"},
	{"internal/identity", []string{"internal/container", "github.com/docker/docker/client", "net", "net/http"}, "kernel facts stand without a runtime"},
	{"internal/strictyaml", []string{"vault", "policy", "net", "os"}, "text in, values out"},
	{"internal/credfile", []string{"policy", "refresh", "fs", "net", "net/http"}, "a format, without network"},
	{"internal/endpoint", []string{"vault", "policy", "net", "net/http"}, "text in, text out; policy uses it"},
	{"internal/settings", []string{"policy", "refresh", "fs", "net", "net/http", "internal/broker"}, "a format, without network"},
	{"internal/keeper", []string{"vault", "policy", "refresh", "fs", "internal/config", "internal/broker", "internal/identity", "net", "net/http", "github.com/hanwen/go-fuse/v2/fuse"}, "it holds descriptors and knows nothing else"},
	{"internal/fdstore", []string{"vault", "policy", "fs", "net", "net/http"}, "descriptors and messages"},
	{"internal/ledger", []string{"vault", "policy", "fs", "net", "net/http", "internal/sealed"}, "memory of the connection, nothing secret"},
	{"internal/sealed", []string{"vault", "policy", "fs", "net", "net/http"}, "memory, whatever it holds"},
	{"internal/serve", []string{"vault", "policy", "refresh", "fs", "internal/broker", "internal/identity"}, "numbers of the protocol; no caller and no content"},
	{"internal/broker", []string{"internal/config", "internal/container", "internal/daemon"}, "the broker gets its parts as interfaces"},
}

// onlyIn names who alone may import a package.
var onlyIn = map[string][]string{
	"github.com/spf13/cobra":                  {"cmd/"},
	"github.com/spf13/pflag":                  {"cmd/"},
	module + "/internal/config":               {"cmd/", "internal/daemon"},
	module + "/internal/daemon":               {"cmd/"},
	"github.com/docker/docker/client":         {"internal/container", "test/"},
	"github.com/goccy/go-yaml":                {"internal/strictyaml", "policy"},
	"github.com/hanwen/go-fuse/v2/fs":         {"fs"},
	"github.com/zalando/go-keyring":           {"vault"},
	"golang.org/x/oauth2":                     {"refresh"},
	"github.com/distribution/reference":       {"policy"},
	"github.com/coreos/go-systemd/v22/daemon": {"cmd/"},
}

// goroutines lists the files with a go statement. Every other goroutine starts in an errgroup of some Run.
var goroutines = map[string]string{
	"internal/daemon/run.go":   "serves the mount, whose end no context brings about",
	"internal/daemon/adopt.go": "waits for the keeper's death, which no context brings about",
	"internal/serve/prove.go":  "serves in a process that ends with the proof",
}

// reveals lists the files that may take the bytes out of a vault.Secret.
var reveals = map[string]string{
	"vault/secret.go":              "the type itself",
	"vault/codec.go":               "writes the record that is then sealed",
	"vault/accounts.go":            "reads the record that was sealed",
	"vault/record.go":              "compares what it reads back",
	"vault/seal.go":                "the vault key",
	"vault/vault.go":               "derives keys",
	"vault/slot_keyring.go":        "stores the vault key",
	"vault/slot_kernel.go":         "stores the vault key",
	"vault/slot_passphrase.go":     "wraps the vault key",
	"refresh/grant.go":             "posts the refresh token",
	"internal/credfile/render.go":  "renders the document",
	"internal/broker/notes.go":     "keeps what is remembered of a tree in sealed memory",
	"internal/broker/document.go":  "the tree's own members, sealed in the vault",
	"internal/broker/key.go":       "renders the key",
	"internal/broker/surrogate.go": "derives surrogates",
	"internal/broker/change.go":    "compares and keeps the tree's own members",
	"cmd/claudefs/vault.go":        "hands a passphrase to the daemon",
}

// source is one file of ours that is not a test.
type source struct {
	name string // below the root, with slashes
	dir  string
	set  *token.FileSet
	ast  *ast.File
}

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

func sources(t *testing.T) []*source {
	t.Helper()
	var out []*source
	err := filepath.WalkDir("..", func(path string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "../"))
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || isModule(path)) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, &source{name: name, dir: filepath.ToSlash(filepath.Dir(name)), set: set, ast: f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 80 {
		t.Fatalf("only %d files found", len(out))
	}
	return out
}

// isModule reports whether a directory is a module of its own, as test/authserver is.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// imports returns what each package of ours imports itself.
func imports(files []*source) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, f := range files {
		if out[f.dir] == nil {
			out[f.dir] = map[string]bool{}
		}
		for _, i := range f.ast.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			out[f.dir][strings.TrimPrefix(path, module+"/")] = true
		}
	}
	return out
}

// reach returns what pkg imports through packages of ours, each with the way to it.
func reach(all map[string]map[string]bool, pkg string) map[string]string {
	ways := map[string]string{}
	var walk func(from, way string)
	walk = func(from, way string) {
		for _, to := range slices.Sorted(maps.Keys(all[from])) {
			if _, seen := ways[to]; !seen {
				ways[to] = way + " → " + to
				walk(to, ways[to])
			}
		}
	}
	walk(pkg, pkg)
	return ways
}

func TestImports(t *testing.T) {
	all := imports(sources(t))
	for _, row := range never {
		if all[row.pkg] == nil {
			t.Errorf("package %s is gone; correct the table", row.pkg)
		}
		ways := reach(all, row.pkg)
		for _, p := range row.never {
			if way, ok := ways[p]; ok {
				t.Errorf("%s must not reach %s (%s): %s", row.pkg, p, row.why, way)
			}
		}
	}
	for pkg, direct := range all {
		for path, allowed := range onlyIn {
			if direct[strings.TrimPrefix(path, module+"/")] && !slices.ContainsFunc(allowed, func(a string) bool {
				return pkg == a || strings.HasSuffix(a, "/") && strings.HasPrefix(pkg, a)
			}) {
				t.Errorf("%s imports %s, which only %v may", pkg, path, allowed)
			}
		}
		if strings.HasPrefix(pkg, "test") {
			continue
		}
		for path := range direct {
			if path == "testing" && !strings.HasSuffix(pkg, "test") || strings.HasPrefix(path, "test/") {
				t.Errorf("%s imports %s", pkg, path)
			}
		}
	}
}

// calls finds uses of pkg.name by the imported package's name.
func calls(f *source, pkg string, names ...string) (out []ast.Node) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, s.Sel.Name) {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg && x.Obj == nil {
				out = append(out, n)
			}
		}
		return true
	})
	return out
}

func TestProcessAndClock(t *testing.T) {
	for _, f := range sources(t) {
		support := strings.HasPrefix(f.name, "test/")
		for _, n := range calls(f, "time", "Sleep") {
			if !support {
				t.Errorf("%s: time.Sleep; wait for the thing itself", f.at(n))
			}
		}
		if f.ast.Name.Name == "main" || support {
			continue
		}
		ends := append(calls(f, "os", "Exit", "Stdout", "Stdin", "Args"), calls(f, "log", "Fatal", "Fatalf", "Fatalln", "Print", "Printf", "Println")...)
		for _, n := range append(ends, calls(f, "fmt", "Print", "Printf", "Println")...) {
			t.Errorf("%s: only a main package may end the process or use its streams", f.at(n))
		}
	}
}

func TestGoroutines(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		if strings.HasPrefix(f.name, "test/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				if used[f.name] = true; goroutines[f.name] == "" {
					t.Errorf("%s: go statement; start it in a Run, or list the file with the reason", f.at(g))
				}
			}
			return true
		})
	}
	unused(t, "goroutines", goroutines, used)
}

func TestReveal(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
				if used[f.name] = true; reveals[f.name] == "" {
					t.Errorf("%s: Reveal takes a secret out of its type; list the file with the reason", f.at(c))
				}
			}
			return true
		})
	}
	unused(t, "reveals", reveals, used)
}

// unused keeps the lists from outliving their reasons.
func unused(t *testing.T, list string, listed map[string]string, used map[string]bool) {
	t.Helper()
	for name := range listed {
		if !used[name] {
			t.Errorf("list %s: %s no longer needs its entry", list, name)
		}
	}
}

func TestSizes(t *testing.T) {
	const maxFile, maxFunc = 400, 60
	for _, f := range sources(t) {
		if n := f.set.File(f.ast.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s: %d lines, at most %d", f.name, n, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1; n > maxFunc {
				t.Errorf("%s: function %s has %d lines, at most %d", f.at(fn), fn.Name.Name, n, maxFunc)
			}
		}
	}
}

func TestDocumentation(t *testing.T) {
	documented := map[string]int{}
	for _, f := range sources(t) {
		documented[f.dir] += 0
		if f.ast.Doc != nil {
			documented[f.dir]++
		}
		for _, d := range f.ast.Decls {
			for _, n := range undocumented(d) {
				t.Errorf("%s: %s is exported and not documented", f.name, n)
			}
		}
	}
	for pkg, n := range documented {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want 1", pkg, n)
		}
	}
}

// undocumented lists the exported names of a declaration that have no comment.
func undocumented(d ast.Decl) (out []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		// What error and errors.Is ask of a type says nothing of its own.
		if d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "Is"}, d.Name.Name) {
			return nil
		}
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
			out = append(out, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					out = append(out, s.Name.Name)
				}
			case *ast.ValueSpec:
				// One comment may speak for a group.
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						out = append(out, n.Name)
					}
				}
			}
		}
	}
	return out
}

func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if i, ok := t.(*ast.IndexExpr); ok {
		t = i.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
