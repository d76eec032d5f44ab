package broker

import (
	"fmt"

	"github.com/claudefs/claudefs/internal/identity"
)

// claim is the container that an isolated tree belongs to while that container runs.
type claim struct {
	container    string
	pidNamespace uint64
}

// take gives the tree to the subject's container, unless another one that still runs has it. It returns why not.
func (t *tree) take(s *identity.Subject, a Attestor) string {
	t.mu.Lock()
	old := t.claim
	t.mu.Unlock()
	// Asked without the lock: it looks through /proc.
	if old != nil && old.container != s.Container && a.NamespaceAlive(old.pidNamespace) {
		return fmt.Sprintf("isolated tree belongs to container %.12s, which is running", old.container)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.claim != old && t.claim.container != s.Container {
		return fmt.Sprintf("isolated tree belongs to container %.12s, which is running", t.claim.container)
	}
	t.claim = &claim{container: s.Container, pidNamespace: s.PidNamespace}
	return ""
}
