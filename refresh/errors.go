package refresh

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"github.com/claudefs/claudefs/internal/sentinel"
)

// Errors that callers branch on.
var (
	// ErrLoginRequired: the authorization server will not renew this login; a new login is needed. It wraps
	// fs.ErrPermission.
	ErrLoginRequired = sentinel.New("login required", iofs.ErrPermission)
	// ErrStatic: the account holds a token that cannot be renewed, such as one from "claude setup-token".
	ErrStatic = errors.New("account has no refresh token")
	// ErrNotYet: an earlier grant failed and the next attempt is not due.
	ErrNotYet = errors.New("next attempt is not due yet")
	// ErrClosed: the refresher is being shut down and starts no grant any more.
	ErrClosed = errors.New("refresher is closed")
	// ErrSlow: a grant is under way and the caller's patience ended first.
	ErrSlow = errors.New("grant is still under way")
)

// Class says what a failed grant means.
type Class string

// The classes of a failed grant.
const (
	ClassUnsent    Class = "unsent"    // the request certainly did not reach the server
	ClassThrottled Class = "throttled" // 429
	ClassInDoubt   Class = "in doubt"  // sent, and the answer is missing, garbled or a server error
	ClassDead      Class = "dead"      // invalid_grant
	ClassHold      Class = "hold"      // refused with an error_uri to visit
	ClassConfig    Class = "config"    // the client, scope or endpoint is not accepted
)

// GrantError is a failed grant. It never holds the body of an answer: servers echo tokens.
type GrantError struct {
	Class      Class
	Status     int           // HTTP status, 0 without an answer
	Code       string        // RFC 6749 error code, "" without one
	URI        string        // error_uri, for hold
	RetryAfter time.Duration // what the server asked for; 0: nothing
	Err        error         // transport error, nil with an answer
}

func (e *GrantError) Error() string {
	s := "grant: " + string(e.Class)
	if e.Status != 0 {
		s += fmt.Sprintf(": token endpoint answered %d", e.Status)
	}
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.URI != "" {
		s += ": see " + e.URI
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the transport error, and ErrLoginRequired for a login that is dead or on hold.
func (e *GrantError) Unwrap() []error {
	var out []error
	if e.Err != nil {
		out = append(out, e.Err)
	}
	if e.Class == ClassDead || e.Class == ClassHold {
		out = append(out, ErrLoginRequired)
	}
	return out
}
