//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// tokenSet collects the tokens of all hosts for the scan at the suite's end.
type tokenSet struct {
	mu  sync.Mutex
	all map[string]bool
}

var everIssued = tokenSet{all: map[string]bool{}}

func (s *tokenSet) add(tokens []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tokens {
		s.all[t] = true
	}
}

// scanAfterAll looks for every token of every test in all that Docker wrote: layers, container files, logs.
func scanAfterAll(dir string) error {
	byPrefix := map[string][]string{}
	for t := range everIssued.all {
		byPrefix[t[:3]] = append(byPrefix[t[:3]], t)
	}
	var errs []error
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		for _, tokens := range byPrefix {
			if t := findToken(b, tokens); t != "" {
				errs = append(errs, fmt.Errorf("%s holds a token: %.16s…", path, t))
			}
		}
		return nil
	})
	fmt.Printf("scanned %d files of Docker for %d tokens\n", files, len(everIssued.all))
	if files == 0 {
		err = errors.New("scan found no file of Docker's")
	}
	return errors.Join(append(errs, err)...)
}

// checkResidue looks for every token that ever lived in every file that claudefs wrote: state, vault, runtime, logs.
func (h *host) checkResidue() {
	h.t.Helper()
	tokens := h.everyToken()
	if len(tokens) == 0 {
		return
	}
	everIssued.add(tokens)
	h.scan(h.dir, tokens)
	if t := findToken([]byte(h.log.String()), tokens); t != "" {
		h.t.Errorf("the daemon's log holds a token: %.16s…", t)
	}
}

func (h *host) everyToken() []string {
	if h.tokens != nil {
		return h.tokens.EveryToken()
	}
	if h.extra != nil {
		return h.extra()
	}
	return nil
}

// scan fails the test for every file below dir that holds a token. Our own mount is passed over.
func (h *host) scan(dir string, tokens []string) {
	h.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path == h.mnt {
			return filepath.SkipDir // what is seen through the mount is on no disk
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if t := findToken(b, tokens); t != "" {
			h.t.Errorf("%s holds a token: %.16s…", path, t)
		}
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
}

// findToken returns the first token that b holds. All tokens of a server share a prefix, so most files are passed
// over in one search.
func findToken(b []byte, tokens []string) string {
	prefix := tokens[0][:3]
	if !bytes.Contains(b, []byte(prefix)) {
		return ""
	}
	text := string(b)
	for _, t := range tokens {
		if strings.Contains(text, t) {
			return t
		}
	}
	return ""
}
