package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/claudefs/claudefs/internal/identity"
)

// ofNamespace asks the runtimes whose container has the subject's own pid namespace: rootless Podman on cgroup v1 leaves
// nothing else to know one by.
func (b *Broker) ofNamespace(ctx context.Context, s *identity.Subject) (*identity.Facts, error) {
	f, err := b.cfg.Runtime.Having(ctx, func(f *identity.Facts) (identity.Process, error) { return b.cfg.Attestor.FirstOf(s, f) })
	if errors.Is(err, identity.ErrNoContainer) {
		// Fail closed: a container with SYS_ADMIN can move itself out of every cgroup that names it, and would then
		// look like this in a namespace that it made. What it may do is not known, so a rule that has to know refuses it.
		return nil, fmt.Errorf("no runtime knows the container: its cgroup names none, and for its pid namespace: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask container runtime: %w", err)
	}
	return f, nil
}
