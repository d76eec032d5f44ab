package broker

import (
	"fmt"

	"github.com/claudefs/claudefs/internal/identity"
)

// claim is the container that an isolated tree belongs to while that container runs.
type claim struct {
	container string
	witness   identity.Process // lives as long as the container does
}

// take gives the tree to the subject's container, unless another one that still runs has it. It returns why not.
func (t *tree) take(s *identity.Subject, f *identity.Facts, a Attestor) string {
	t.mu.Lock()
	old := t.claim
	t.mu.Unlock()
	// What follows looks through /proc, so it runs without the lock.
	if old != nil && old.container == s.Container && a.Alive(old.witness) {
		return ""
	}
	if reason := t.foreign(s, a); reason != "" {
		return reason
	}
	witness, err := a.Witness(s, firstProcess(f))
	if err != nil {
		return fmt.Sprintf("isolated tree needs a process that stands for the container: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.claim != old && t.claim.container != s.Container {
		return owned(t.claim)
	}
	t.claim, t.changed = &claim{container: s.Container, witness: witness}, true
	return ""
}

// firstProcess is the one that a runtime names, 0 without its word.
func firstProcess(f *identity.Facts) uint32 {
	if f == nil {
		return 0
	}
	return f.InitPID
}

// foreign says that the tree belongs to another container which runs, "" when it does not.
func (t *tree) foreign(s *identity.Subject, a Attestor) string {
	t.mu.Lock()
	c := t.claim
	t.mu.Unlock()
	if c == nil || c.container == s.Container || !a.Alive(c.witness) {
		return ""
	}
	return owned(c)
}

func owned(c *claim) string {
	return fmt.Sprintf("isolated tree belongs to container %.12s, which is running", c.container)
}
