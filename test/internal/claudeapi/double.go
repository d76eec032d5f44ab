package claudeapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"sync"
)

// Verdict is the double's opinion of one access token.
type Verdict int

const (
	// Unknown means the server never issued the token: HTTP 401. It is the zero
	// value, so a table that lacks a token refuses it.
	Unknown Verdict = iota
	// Valid means the request is served.
	Valid
	// Revoked means the token was good once: HTTP 401.
	Revoked
)

// Config says how a Double answers.
type Config struct {
	// Verdict judges the access token of each request. It is called from many
	// goroutines. Required.
	Verdict func(accessToken string) Verdict
	// Token serves POST /v1/oauth/token. Nil means that nobody may call it: the
	// request is a violation and is answered 400 invalid_grant.
	Token http.Handler
	// Log gets one line per request, with token fingerprints and never tokens.
	// Nil discards.
	Log *slog.Logger
}

// Double is the double of the API. It is safe for concurrent use.
type Double struct {
	verdict func(string) Verdict
	token   http.Handler
	log     *slog.Logger
	pki     *pki
	mux     *http.ServeMux

	mu        sync.Mutex
	requests  []Request
	listeners map[*listener]struct{}
	closed    bool
}

// New returns a Double with its own CA and server certificate. It listens
// nowhere until [Double.ListenInNetns].
func New(cfg Config) (*Double, error) {
	if cfg.Verdict == nil {
		return nil, errors.New("check config: Verdict is nil")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p, err := newPKI(Hosts())
	if err != nil {
		return nil, err
	}
	d := &Double{
		verdict:   cfg.Verdict,
		token:     cfg.Token,
		log:       cfg.Log,
		pki:       p,
		listeners: make(map[*listener]struct{}),
	}
	d.mux = d.routes()
	return d, nil
}

// CAPEM returns the CA certificate for NODE_EXTRA_CA_CERTS.
func (d *Double) CAPEM() []byte { return append([]byte(nil), d.pki.caPEM...) }

// Close closes every listener which is still open.
func (d *Double) Close() error {
	d.mu.Lock()
	d.closed = true
	open := make([]*listener, 0, len(d.listeners))
	for l := range d.listeners {
		open = append(open, l)
	}
	d.mu.Unlock()
	var errs []error
	for _, l := range open {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// tlsConfig offers HTTP/1.1 only: it is what the client speaks.
func (d *Double) tlsConfig() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{d.pki.server},
		NextProtos:   []string{"http/1.1"},
		MinVersion:   tls.VersionTLS12,
	}
}

type labelKey struct{}

// withLabel marks the requests of one listener with its client's name.
func withLabel(ctx context.Context, label string) context.Context {
	return context.WithValue(ctx, labelKey{}, label)
}

func labelOf(ctx context.Context) string {
	label, _ := ctx.Value(labelKey{}).(string)
	return label
}
