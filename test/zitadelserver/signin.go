package main

import (
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// signInPath is where the library sends the browser for the user to log in.
const signInPath = "/signin"

// signIn stands for the page with the form: there is one user, who always logs
// in and consents. The browser goes on to the library's callback.
func (s *server) signIn(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if err := s.users.CheckUsernamePassword(s.user.Username, s.user.Password, id); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx := op.ContextWithIssuer(r.Context(), s.cfg.baseURL)
	http.Redirect(w, r, op.AuthCallbackURL(s.provider)(ctx, id), http.StatusFound)
}
