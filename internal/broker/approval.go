package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/vault"
)

// maxWaiting bounds the readers of one tree that wait for an approval; the longest waiting one makes room.
const maxWaiting = 16

// Waiting is a reader that an operator has to approve.
type Waiting struct {
	Reader string    `json:"reader"` // a container's id, or "uid N" on the host
	Name   string    `json:"name,omitempty"`
	Since  time.Time `json:"since"`
	// Witness lives as long as the container; that of a host process is the process.
	Witness identity.Process `json:"witness"`
}

// unapproved says why a reader has to wait for an approval, "" when it has one. A reader that waits is remembered.
func (b *Broker) unapproved(t *tree, v *verdict) string {
	if !v.decision.Approval || b.approved(t, v) {
		return ""
	}
	witness, err := b.cfg.Attestor.Witness(v.subject, firstProcess(v.facts))
	if err != nil {
		return fmt.Sprintf("%s%s, and there is no process that stands for the container: %v", needsApproval, t.name, err)
	}
	t.wait(Waiting{Reader: v.reader(), Name: v.name(), Since: time.Now().UTC(), Witness: witness})
	return needsApproval + t.name
}

const needsApproval = "its first read needs an approval: claudefs tree approve "

// approved reports whether the reader has an approval.
func (b *Broker) approved(t *tree, v *verdict) bool {
	t.mu.Lock()
	known := slices.Clone(t.approved)
	t.mu.Unlock()
	return slices.ContainsFunc(known, func(a Waiting) bool { return a.Reader == v.reader() && b.cfg.Attestor.Alive(a.Witness) })
}

func (v *verdict) name() string {
	if v.facts == nil {
		return ""
	}
	return v.facts.Name
}

// wait notes a reader, once.
func (t *tree) wait(w Waiting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.ContainsFunc(t.waiting, func(o Waiting) bool { return o.Reader == w.Reader && o.Witness == w.Witness }) {
		return
	}
	if len(t.waiting) >= maxWaiting {
		t.waiting = t.waiting[1:]
	}
	t.waiting = append(t.waiting, w)
}

// Approve lets readers of a tree that wait read from now on, for as long as their containers run: all, or the one whose
// name or id (or its beginning) is given. vault.ErrNotFound: nobody waits.
func (b *Broker) Approve(name, reader string) ([]Waiting, error) {
	if !slices.Contains(b.Trees(), name) {
		return nil, fmt.Errorf("tree %s: %w", name, vault.ErrNotFound)
	}
	t := b.tree(name)
	approved, err := t.meant(reader)
	if err != nil {
		return nil, err
	}
	for _, w := range approved {
		// Recorded first: what cannot be recorded is not granted.
		e := audit.Event{Action: audit.ActionApprove, Outcome: audit.Allowed, Tree: name, Container: w.Reader, Name: w.Name, Reason: "approved by an operator"}
		if err := b.cfg.Audit.Record(e); err != nil {
			return nil, err
		}
		t.approve(w, b.cfg.Attestor)
	}
	b.save(t)
	return approved, nil
}

// meant finds the waiting readers that an operator means: all, or one by its name, its id or the beginning of that.
func (t *tree) meant(reader string) (found []Waiting, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.waiting {
		if reader == "" || reader == w.Name || strings.HasPrefix(w.Reader, reader) {
			found = append(found, w)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("approve: no reader of tree %s waits that is meant", t.name)
	case reader != "" && slices.ContainsFunc(found, func(w Waiting) bool { return w.Reader != found[0].Reader }):
		return nil, fmt.Errorf("approve: several readers of tree %s wait that %q can mean; give a full id", t.name, reader)
	}
	return found, nil
}

func (t *tree) approve(w Waiting, a Attestor) {
	t.mu.Lock()
	known := slices.Clone(t.approved)
	t.mu.Unlock()
	known = slices.DeleteFunc(known, func(o Waiting) bool { return !a.Alive(o.Witness) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.approved, t.changed = append(known, w), true
	t.waiting = slices.DeleteFunc(t.waiting, func(o Waiting) bool { return o.Reader == w.Reader && o.Witness == w.Witness })
}
