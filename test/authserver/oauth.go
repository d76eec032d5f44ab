package main

import (
	"errors"
	"net/http"

	"github.com/ory/fosite"
)

// authorize grants whatever a known client asks for: there is one user, and
// that user always consents.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	req, err := s.provider.NewAuthorizeRequest(ctx, r)
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, req, err)
		return
	}
	for _, scope := range req.GetRequestedScopes() {
		req.GrantScope(scope)
	}
	resp, err := s.provider.NewAuthorizeResponse(ctx, req, newSession())
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, req, err)
		return
	}
	s.provider.WriteAuthorizeResponse(ctx, w, req, resp)
}

// token serves both grants. The outcome of a refresh is counted.
func (s *server) token(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	req, resp, err := s.grant(r)
	if r.PostForm.Get("grant_type") == "refresh_token" {
		s.counts.add(err)
	}
	if err != nil {
		s.provider.WriteAccessError(ctx, w, req, err)
		return
	}
	s.provider.WriteAccessResponse(ctx, w, req, resp)
}

func (s *server) grant(r *http.Request) (fosite.AccessRequester, fosite.AccessResponder, error) {
	req, err := s.provider.NewAccessRequest(r.Context(), r, newSession())
	if err != nil {
		return req, nil, err
	}
	resp, err := s.provider.NewAccessResponse(r.Context(), req)
	return req, resp, err
}

// introspect is RFC 7662.
func (s *server) introspect(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	resp, err := s.provider.NewIntrospectionRequest(ctx, r, newSession())
	if err != nil {
		s.provider.WriteIntrospectionError(ctx, w, err)
		return
	}
	s.provider.WriteIntrospectionResponse(ctx, w, resp)
}

// revoke is RFC 7009: it ends the whole family of the token.
func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	s.provider.WriteRevocationResponse(ctx, w, s.provider.NewRevocationRequest(ctx, r))
}

func newSession() *fosite.DefaultSession {
	return &fosite.DefaultSession{Subject: subject, Username: subject}
}

// counts are the outcomes of refresh requests, as /admin/counts reports them.
type counts struct {
	OK     int `json:"refresh_ok"`
	Failed int `json:"refresh_failed"`
	// Reused counts the failures due to a token that was spent or revoked
	// before; it is part of Failed.
	Reused int `json:"reuse_detected"`
}

func (c *counts) add(err error) {
	switch {
	case err == nil:
		c.OK++
	case errors.Is(err, fosite.ErrInactiveToken):
		c.Reused++
		c.Failed++
	default:
		c.Failed++
	}
}
