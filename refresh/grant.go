package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/oauth2"

	"github.com/claudefs/claudefs/vault"
)

// grant sends one refresh request and returns the next credential, not yet stored. Errors are *GrantError.
func (r *Refresher) grant(ctx context.Context, c *vault.Credential) (*vault.Credential, error) {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	ctx = context.WithValue(httptrace.WithClientTrace(ctx, trace), oauth2.HTTPClient, r.client)
	// Claude Code's endpoint wants the scope named. It is the whole scope of the login, never a part: some servers
	// narrow the refresh token itself for good when a refresh asks for less.
	ctx = withScope(ctx, strings.Join(c.Scopes, " "))
	conf := oauth2.Config{
		ClientID: r.cfg.ClientID,
		Endpoint: oauth2.Endpoint{TokenURL: r.cfg.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	// A one-shot source, no ReuseTokenSource: the vault is the cache, and nothing is served before it is durable.
	tok, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: string(c.RefreshToken.Reveal())}).Token()
	if err != nil {
		ge := classify(err, sent.Load())
		if c.RefreshToken.In([]byte(ge.URI)) || c.AccessToken.In([]byte(ge.URI)) {
			ge.URI = ""
		}
		return nil, ge
	}
	return next(c, tok, time.Now()), nil
}

// next is the credential that follows c after the answer tok.
func next(c *vault.Credential, tok *oauth2.Token, now time.Time) *vault.Credential {
	n := *c
	n.AccessToken = vault.NewSecret([]byte(tok.AccessToken))
	if tok.RefreshToken != "" { // RFC 6749, section 6: without a new one the old one stays
		n.RefreshToken = vault.NewSecret([]byte(tok.RefreshToken))
	}
	n.IssuedAt, n.ExpiresAt = now, tok.Expiry.Round(0)
	if !n.ExpiresAt.After(now) { // absent, or nonsense that would make us ask without end
		n.ExpiresAt = now.Add(max(c.Lifetime(), time.Hour)) // "recommended" in RFC 6749, section 5.1: not every server says
	}
	if scope, ok := tok.Extra("scope").(string); ok && scope != "" {
		n.Scopes = strings.Fields(scope)
	}
	n.State, n.Why, n.Intent = vault.StateValid, "", nil
	n.Advance(c, now)
	return &n
}

// classify sorts a failure by what it means for the refresh token. It keeps no text of the answer.
func classify(err error, sent bool) *GrantError {
	var re *oauth2.RetrieveError
	if !errors.As(err, &re) {
		if !sent {
			return &GrantError{Class: ClassUnsent, Err: innermost(err)}
		}
		return &GrantError{Class: ClassInDoubt, Err: answerCause(err)}
	}
	g := &GrantError{Code: safeCode(re.ErrorCode), URI: safeURI(re.ErrorURI)}
	if re.Response != nil {
		g.Status = re.Response.StatusCode
		g.RetryAfter = retryAfter(re.Response.Header.Get("Retry-After"), time.Now())
	}
	if g.Code == "" {
		g.Code = objectCode(re.Body)
	}
	g.Class = classOf(g)
	if g.Class != ClassHold {
		g.URI = ""
	}
	return g
}

func classOf(g *GrantError) Class {
	refused := g.Status == http.StatusBadRequest || g.Status == http.StatusUnauthorized || g.Status == http.StatusForbidden
	switch {
	case g.Status == http.StatusTooManyRequests:
		return ClassThrottled
	case refused && g.Code == "invalid_grant":
		return ClassDead
	case refused && g.URI != "":
		return ClassHold
	case g.Status >= 400 && g.Status < 500 && g.Code != "":
		return ClassConfig
	case g.Status == http.StatusNotFound, g.Status == http.StatusMethodNotAllowed, g.Status >= 300 && g.Status < 400:
		return ClassConfig
	}
	return ClassInDoubt
}

// objectCode reads the error code of servers that answer {"error": {"type": …}} instead of RFC 6749's string. Only
// known codes pass, so that no text of the body reaches a log.
func objectCode(body []byte) string {
	var w struct {
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &w) != nil {
		return ""
	}
	switch w.Error.Type {
	case "invalid_grant", "invalid_client", "invalid_scope", "invalid_request", "unauthorized_client", "rate_limit_error":
		return w.Error.Type
	}
	return ""
}

var codePattern = regexp.MustCompile(`^[a-z_]{1,40}$`)

// safeCode passes an error code only if it has the form of one; a server may echo anything.
func safeCode(s string) string {
	if codePattern.MatchString(s) {
		return s
	}
	return ""
}

// safeURI passes scheme, host and path of an error_uri; a query could carry a token.
func safeURI(s string) string {
	u, err := url.Parse(s)
	if s == "" || err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// innermost drops the outer layers of a transport error, which name the URL.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// answerCause says why there is no answer to a request that was sent. Only errors known to quote nothing pass: those
// of net/http and of x/oauth2 quote what the server wrote, which may be a token.
func answerCause(err error) error {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return errors.New("the connection ended without an answer")
	}
	return errors.New("answer is not a token response")
}

func retryAfter(h string, now time.Time) time.Duration {
	if h == "" {
		return 0
	}
	if s, err := strconv.Atoi(h); err == nil && s >= 0 {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
