package broker

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// Memory is sealed memory that outlives the server. What it loses costs a grant or a claim, never a login.
type Memory interface {
	Save(tree string, notes []byte) error
	Load(tree string) []byte
	Trees() []string
}

// notes are what is remembered of a tree, for the next server. They hold tokens.
type notes struct {
	Account  vault.AccountID     `json:"account,omitempty"`
	Refresh  policy.RefreshToken `json:"refresh,omitempty"`
	Rule     string              `json:"rule,omitempty"`
	Claim    string              `json:"claim,omitempty"`
	Witness  identity.Process    `json:"witness,omitzero"`
	Read     vault.AccountID     `json:"read,omitempty"`
	Rotated  time.Time           `json:"rotated"`
	Busy     time.Time           `json:"busy,omitzero"`
	Forced   []time.Time         `json:"forced,omitempty"`
	Handed   []handedNote        `json:"handed,omitempty"`
	LastRead Reader              `json:"last,omitzero"`
	Approved []Waiting           `json:"approved,omitempty"`
	Place    place               `json:"place,omitempty"`
	Tenants  []tenant            `json:"tenants,omitempty"`
}

// handedNote is handed with its tokens in clear.
type handedNote struct {
	Generation uint64          `json:"generation"`
	Account    vault.AccountID `json:"account"`
	Access     []byte          `json:"access"`
	Surrogate  []byte          `json:"surrogate"`
}

// save keeps what is remembered of the tree if it changed. A failure costs something after a crash only.
func (b *Broker) save(t *tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.changed || b.cfg.Memory == nil {
		return
	}
	t.changed = false
	n := notes{
		Read: t.read.account, Rotated: t.read.rotated, Busy: t.busy, Forced: t.forced, LastRead: t.last, Approved: t.approved,
		Place: t.place, Tenants: t.tenants,
	}
	if t.pin != nil {
		n.Account, n.Refresh, n.Rule = t.pin.account, t.pin.refresh, t.pin.rule
	}
	if t.claim != nil {
		n.Claim, n.Witness = t.claim.container, t.claim.witness
	}
	for _, h := range t.handed {
		n.Handed = append(n.Handed, handedNote{h.generation, h.account, h.access.Reveal(), h.surrogate.Reveal()})
	}
	text, err := json.Marshal(&n)
	if err == nil {
		err = b.cfg.Memory.Save(t.name, text)
	}
	clear(text)
	t.unsaved = err
}

// recall takes up what an earlier server remembered of the tree; nobody else knows the tree yet.
func (b *Broker) recall(t *tree) {
	if b.cfg.Memory == nil {
		return
	}
	text := b.cfg.Memory.Load(t.name)
	defer clear(text)
	var n notes
	if len(text) == 0 || json.Unmarshal(text, &n) != nil {
		return
	}
	t.read, t.busy, t.forced, t.last, t.approved = reading{n.Read, n.Rotated}, n.Busy, n.Forced, n.LastRead, n.Approved
	t.place, t.tenants = n.Place, n.Tenants
	if n.Account != "" {
		t.pin = &pin{n.Account, n.Refresh, n.Rule}
	}
	if n.Claim != "" {
		t.claim = &claim{n.Claim, n.Witness}
	}
	for _, h := range n.Handed {
		t.handed = append(t.handed, handed{h.Generation, h.Account, vault.NewSecret(h.Access), vault.NewSecret(h.Surrogate)})
	}
}

// Recall takes up all trees that an earlier server knew, and has their accounts kept fresh: a client that runs there
// looks at its file's time only, and does not open it before that changes.
func (b *Broker) Recall() {
	if b.cfg.Memory == nil {
		return
	}
	for _, name := range b.cfg.Memory.Trees() {
		t := b.tree(name)
		t.mu.Lock()
		p := t.pin
		t.mu.Unlock()
		if p != nil {
			b.cfg.Tokens.Watch(p.account)
		}
	}
}

// ticketVersion is the format of a change's ticket.
const ticketVersion = 1

// ticket is a permitted change: who, and what the policy said.
type ticket struct {
	Version  int
	Caller   identity.Caller
	Subject  *identity.Subject
	Facts    *identity.Facts
	Decision policy.Decision
}

// Ticket implements fs.Change.
func (c *change) Ticket() ([]byte, error) {
	b, err := json.Marshal(ticket{ticketVersion, c.v.caller, c.v.subject, c.v.facts, c.v.decision})
	if err != nil {
		return nil, fmt.Errorf("write ticket: %w", err)
	}
	return b, nil
}

// Redeem implements fs.Credentials. Tickets lie in sealed memory only, so whoever has one was permitted.
func (b *Broker) Redeem(name string, text []byte) (fs.Change, error) {
	var k ticket
	if err := json.Unmarshal(text, &k); err != nil || k.Version != ticketVersion || !k.Decision.Allowed {
		// Fail closed: what cannot be read permits nothing.
		return nil, fmt.Errorf("redeem ticket of tree %s: %w", name, policy.ErrDenied)
	}
	return &change{b: b, t: b.tree(name), v: &verdict{k.Caller, k.Subject, k.Facts, k.Decision}}, nil
}
