package refresh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Encoding is how a request to the token endpoint is written.
type Encoding string

// The encodings of a token request: RFC 6749 says form; Claude Code's endpoint takes JSON.
const (
	EncodingJSON Encoding = "json"
	EncodingForm Encoding = "form"
)

var errForeignRequest = errors.New("refused: only the token endpoint is spoken to")

// transport carries x/oauth2's form requests to the token endpoint, and to nothing else, as the endpoint wants them.
// A request is never replayed and a redirect never followed: both would send a refresh token a second time.
type transport struct {
	base      http.RoundTripper
	tokenURL  string
	encoding  Encoding
	userAgent string
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || r.URL.String() != t.tokenURL {
		return nil, errForeignRequest
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read token request: %w", err)
	}
	if scope, _ := r.Context().Value(scopeKey{}).(string); scope != "" {
		body = append(append(body, "&scope="...), url.QueryEscape(scope)...)
	}
	out := r.Clone(r.Context())
	out.Header.Set("Accept", "application/json")
	out.Header.Set("User-Agent", t.userAgent)
	if t.encoding == EncodingJSON {
		if body, err = formToJSON(body); err != nil {
			return nil, err
		}
		out.Header.Set("Content-Type", "application/json")
	}
	out.Body, out.ContentLength, out.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	resp, err := t.base.RoundTrip(out)
	if err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		// x/oauth2 reads text as a form and would not see the tokens in it. An answer is JSON (RFC 6749, section 5.1),
		// however a server labels it: to miss the new refresh token is to lose the login.
		resp.Header.Set("Content-Type", "application/json")
	}
	return resp, err
}

type scopeKey struct{}

// withScope has the next request name a scope, which x/oauth2's refresh cannot.
func withScope(ctx context.Context, scope string) context.Context {
	return context.WithValue(ctx, scopeKey{}, scope)
}

func formToJSON(form []byte) ([]byte, error) {
	v, err := url.ParseQuery(string(form))
	if err != nil {
		return nil, errors.New("encode token request: not a form")
	}
	m := make(map[string]string, len(v))
	for k := range v {
		m[k] = v.Get(k)
	}
	return json.Marshal(m)
}

// newClient makes the HTTP client for grants. Without keep-alive no buffer of a connection outlives its answer.
func newClient(c *Config) *http.Client {
	base := c.Transport
	if base == nil {
		base = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
		}
	}
	return &http.Client{
		Timeout:       c.Timeout,
		Transport:     &transport{base: base, tokenURL: c.TokenURL, encoding: c.Encoding, userAgent: c.UserAgent},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
