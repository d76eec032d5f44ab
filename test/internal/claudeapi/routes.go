package claudeapi

import (
	"encoding/json"
	"net/http"
)

const tokenPath = "/v1/oauth/token"

// routes lists what the client calls. What is not listed answers 404, which the
// client takes as "feature not there".
func (d *Double) routes() *http.ServeMux {
	mux := http.NewServeMux()
	api := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, d.authenticate(h)) }
	api("POST api.anthropic.com/v1/messages", serveMessages)
	api("POST api.anthropic.com/v1/messages/count_tokens", fixed(`{"input_tokens":8}`))
	api("GET api.anthropic.com/api/oauth/profile", fixed(profileJSON))
	api("GET api.anthropic.com/api/oauth/claude_cli/roles", fixed(rolesJSON))
	api("GET api.anthropic.com/api/oauth/usage", fixed(`{}`))
	api("GET api.anthropic.com/v1/mcp_servers", fixed(`{"data":[],"has_more":false,"next_page":null}`))
	api("GET api.anthropic.com/api/claude_code/policy_limits", fixed(`{"restrictions":{}}`))
	api("GET api.anthropic.com/api/claude_cli/bootstrap", fixed(`{"client_data":{},"additional_model_options":[]}`))
	mux.HandleFunc("GET api.anthropic.com/api/hello", fixed(`{"message":"hello"}`))
	mux.HandleFunc("GET platform.claude.com/v1/oauth/hello", fixed(`{"message":"hello"}`))
	mux.HandleFunc("POST api.anthropic.com/api/event_logging/", fixed(`{}`))
	for _, host := range []string{"platform.claude.com", "console.anthropic.com"} {
		mux.HandleFunc("POST "+host+tokenPath, d.serveToken)
		mux.HandleFunc("POST "+host+tokenPath+"/revoke", fixed(`{}`))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "not_found_error", "Not found")
	})
	return mux
}

const profileJSON = `{
 "account":{"uuid":"00000000-0000-4000-8000-000000000001","email":"double@example.com",
  "full_name":"Double","display_name":"Double","created_at":"2025-01-01T00:00:00Z",
  "has_claude_max":true,"has_claude_pro":false},
 "organization":{"uuid":"00000000-0000-4000-8000-000000000002","name":"Double",
  "organization_type":"claude_max","rate_limit_tier":"default_claude_max_5x",
  "billing_type":"stripe_subscription","has_extra_usage_enabled":false}}`

const rolesJSON = `{"organization_role":"admin","workspace_role":null,"organization_name":"Double"}`

// authenticate answers 401 in the API's error shape unless the bearer token is
// valid. Fail closed: a request without a bearer token is refused as well.
func (d *Double) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r)
		verdict := Unknown
		if token != "" {
			verdict = d.verdict(token)
		}
		switch verdict {
		case Valid:
			next.ServeHTTP(w, r)
		case Revoked:
			writeError(w, http.StatusUnauthorized, "authentication_error",
				"OAuth token has expired. Please obtain a new token or refresh your existing token.")
		default:
			writeError(w, http.StatusUnauthorized, "authentication_error", "Invalid bearer token")
		}
	})
}

// serveToken hands the grant to the configured handler; describe has already
// noted the violation when there is none.
func (d *Double) serveToken(w http.ResponseWriter, r *http.Request) {
	if d.token != nil {
		d.token.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"error":             "invalid_grant",
		"error_description": "Refresh token not found or invalid",
	})
}

func fixed(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

// writeError answers in the API's error shape.
func writeError(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_double")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type":       "error",
		"error":      map[string]string{"type": kind, "message": message},
		"request_id": "req_double",
	})
}
