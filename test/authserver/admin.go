package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/ory/fosite"
)

// expiredAge is how far in the past ?expired=1 puts expiresAt.
const expiredAge = time.Hour

// adminLogin logs in and returns a credential file. With ?expired=1 the file
// says the access token has expired, which makes a reader refresh at once; the
// token itself stays valid for its lifetime.
func (s *server) adminLogin(w http.ResponseWriter, r *http.Request) {
	file, err := login(r.Context(), s.endpoints())
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	if r.URL.Query().Get("expired") == "1" {
		file.OAuth.ExpiresAt = time.Now().Add(-expiredAge).UnixMilli()
	}
	writeJSON(w, http.StatusOK, file)
}

// adminActive reports whether ?token= is a live access token.
func (s *server) adminActive(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	use, _, err := s.provider.IntrospectToken(r.Context(), token, fosite.AccessToken, newSession())
	active := err == nil && use == fosite.AccessToken
	writeJSON(w, http.StatusOK, map[string]bool{"active": active})
}

// adminCounts reports the outcomes of the refresh requests so far.
func (s *server) adminCounts(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.counts)
}

// adminRevoke ends the one access token ?token= and leaves its refresh token
// alone, unlike RFC 7009 revocation, which ends the family.
func (s *server) adminRevoke(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	signature := s.strategy.AccessTokenSignature(ctx, r.URL.Query().Get("token"))
	_, err := s.store.GetAccessTokenSession(ctx, signature, newSession())
	if errors.Is(err, fosite.ErrNotFound) {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such access token"})
		return
	}
	if err == nil {
		err = s.store.DeleteAccessTokenSession(ctx, signature)
	}
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
