package main

import (
	"net/http"
	"time"
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

// adminActive reports whether ?token= is a live access token, which is for the
// userinfo endpoint to say.
func (s *server) adminActive(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, s.endpoints().UserinfoURL, nil)
	if err != nil {
		panic(err) // from our own listener
	}
	req.Header.Set("Authorization", "Bearer "+r.URL.Query().Get("token"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	defer resp.Body.Close()
	writeJSON(w, http.StatusOK, map[string]bool{"active": resp.StatusCode == http.StatusOK})
}

// adminCounts reports the outcomes of the refresh requests so far.
func (s *server) adminCounts(w http.ResponseWriter, _ *http.Request) {
	ok, failed := s.counts.get()
	writeJSON(w, http.StatusOK, counts{OK: ok, Failed: failed, Reused: s.store.reuses()})
}
