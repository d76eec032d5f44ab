package accounts

import (
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh"
)

// RecordGrants is a refresher's OnGrant that audits the end of every grant before its token is served.
func RecordGrants(log Recorder) func(refresh.Event) error {
	return func(ev refresh.Event) error {
		e := audit.Event{Action: audit.ActionRotate, Outcome: audit.Allowed, Account: string(ev.Account), Generation: ev.Generation}
		if !ev.ExpiresAt.IsZero() {
			e.ExpiresAt = &ev.ExpiresAt
		}
		if ev.Err != nil {
			e.Outcome, e.Reason = audit.Failed, ev.Err.Error()
		}
		return log.Record(e)
	}
}
