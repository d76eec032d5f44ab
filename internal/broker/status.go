package broker

import (
	"maps"
	"slices"
	"time"

	"github.com/claudefs/claudefs/internal/settings"
	"github.com/claudefs/claudefs/policy"
)

// TreeStatus is the state of one tree, for status.
type TreeStatus struct {
	Name          string    `json:"name"`
	Account       string    `json:"account,omitempty"`
	LoggedOut     bool      `json:"loggedOut,omitempty"`
	Owner         string    `json:"ownerContainer,omitempty"` // the container that an isolated tree belongs to
	LastRead      time.Time `json:"lastRead,omitzero"`
	Container     string    `json:"lastContainer,omitempty"`
	ContainerName string    `json:"lastContainerName,omitempty"`
	Outcome       string    `json:"lastOutcome,omitempty"` // "allowed", or the reason of the refusal
	Hint          string    `json:"hint,omitempty"`        // what would help a tree without a login
	Waiting       []Waiting `json:"waiting,omitempty"`     // readers that an operator has to approve
	// NotShown is what the tree's own settings files have and readers do not see, by file.
	NotShown map[string][]settings.Removed `json:"settingsNotShown,omitempty"`
}

// Status describes the trees that have state and those that somebody asked for, by name.
func (b *Broker) Status() []TreeStatus {
	out := []TreeStatus{}
	for _, name := range b.Trees() {
		out = append(out, b.treeStatus(b.tree(name)))
	}
	return out
}

func (b *Broker) treeStatus(t *tree) TreeStatus {
	s := TreeStatus{Name: t.name}
	doc, err := b.document(t)
	if err == nil {
		if s.LoggedOut = doc.LoggedOut; s.LoggedOut {
			s.Hint = "claudefs tree reset " + t.name
		}
		if p, ok := b.expected(t, doc); ok && b.exists(p.account) {
			s.Account = string(p.account)
		} else {
			s.Hint = b.loginHint(t, p)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Waiting = slices.Clone(t.waiting); len(s.Waiting) > 0 {
		s.Hint = "claudefs tree approve " + t.name
	}
	s.NotShown = maps.Clone(t.hidden)
	if t.claim != nil {
		s.Owner = t.claim.container
	}
	s.LastRead, s.Container, s.ContainerName, s.Outcome = t.last.At, t.last.Container, t.last.Name, t.last.Outcome
	return s
}

func (b *Broker) loginHint(t *tree, p pin) string {
	name := string(p.account)
	if name == "" {
		name = t.name
	}
	if !policy.ValidTree(name) {
		return ""
	}
	return "claudefs import --account " + name + " FILE"
}
