package audit

import (
	"time"

	"github.com/claudefs/claudefs/internal/identity"
)

// Action is what happened.
type Action string

// The actions.
const (
	ActionStart    Action = "start"    // the daemon began to serve
	ActionTakeOver Action = "takeover" // a server went on with the mount of the one before it
	ActionStop     Action = "stop"     // the daemon ended
	ActionEnter    Action = "enter"    // a tree's name, or a state file, was asked for by somebody who may not
	ActionRead     Action = "read"     // a credential was asked for
	ActionRotate   Action = "rotate"   // a grant ended
	ActionAbsorb   Action = "absorb"   // a write by a client was kept away from the login
	ActionCapture  Action = "capture"  // a login made inside a tree was taken into the vault
	ActionLogout   Action = "logout"   // a tree logged itself out
	ActionRefresh  Action = "refresh"  // a client's lock asked for a newer token
	ActionWrite    Action = "write"    // a write that was refused before its content was looked at
	ActionApprove  Action = "approve"  // an operator approved a reader
	ActionPolicy   Action = "policy"   // a policy was put in force
	ActionAccounts Action = "accounts" // an operator changed accounts
)

// Outcome is how it ended.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed"
	Denied  Outcome = "denied"
	Failed  Outcome = "failed"
)

// Event is one record.
type Event struct {
	SchemaVersion int       `json:"schemaVersion"` // 1
	Sequence      uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Action        Action    `json:"action"`
	Outcome       Outcome   `json:"outcome"`
	Tree          string    `json:"tree,omitempty"`
	Account       string    `json:"account,omitempty"`
	Rule          string    `json:"rule,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Container     string    `json:"container,omitempty"` // full id
	Name          string    `json:"container_name,omitempty"`
	Image         string    `json:"image,omitempty"`
	UID           *uint32   `json:"uid,omitempty"`
	TID           uint32    `json:"tid,omitempty"`
	Exe           string    `json:"exe,omitempty"`
	// Token is the fingerprint of the access token, Generation its number within the account.
	Token      string     `json:"token,omitempty"`
	Generation uint64     `json:"generation,omitempty"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	// Previous is the SHA-256 of the line before, in hex; that of the first line is 64 zeros.
	Previous string `json:"prev"`
}

// Describe fills in who asked.
func (e *Event) Describe(c identity.Caller, s *identity.Subject, f *identity.Facts) {
	uid := c.UID
	e.UID, e.TID = &uid, c.TID
	if s != nil {
		e.Container, e.Exe = s.Container, s.Exe
	}
	if f != nil {
		e.Name, e.Image = f.Name, f.Image
	}
}

// durable reports whether the record is synced before the log goes on: changes of logins are, what containers can
// cause at will is not, or one of them could slow all the others down.
func (e *Event) durable() bool {
	switch e.Action {
	case ActionTakeOver, ActionEnter, ActionRead, ActionRefresh, ActionWrite, ActionAbsorb, ActionLogout:
		return false
	}
	return e.Outcome == Allowed
}
