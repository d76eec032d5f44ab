package refresh_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
)

var wireLogin = refreshtest.Login{
	AccessToken: "sk-ant-oat01-OLD", RefreshToken: "sk-ant-ort01-OLD+/=&", ExpiresAt: time.Now().Add(time.Hour),
	Scopes: []string{"user:profile", "user:inference"},
}

// over makes a refresher that speaks to url over the real transport.
func over(t *testing.T, url string, encoding refresh.Encoding) *refresh.Refresher {
	t.Helper()
	return newRefresher(t, refresh.Config{
		Store: newMemory(credential(account, wireLogin)), TokenURL: url, ClientID: clientID,
		Encoding: encoding, UserAgent: "claudefs/test", Timeout: 2 * time.Second,
	})
}

func TestRequestOnTheWire(t *testing.T) {
	want := map[string]string{
		"grant_type": "refresh_token", "refresh_token": wireLogin.RefreshToken, "client_id": clientID,
		"scope": "user:profile user:inference",
	}
	for encoding, tc := range map[refresh.Encoding]struct {
		contentType string
		decode      func([]byte) (map[string]string, error)
	}{
		refresh.EncodingJSON: {"application/json", func(b []byte) (m map[string]string, err error) { return m, json.Unmarshal(b, &m) }},
		refresh.EncodingForm: {"application/x-www-form-urlencoded", decodeForm},
	} {
		t.Run(string(encoding), func(t *testing.T) {
			var body []byte
			var head *http.Request
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				head, body = r, must(io.ReadAll(r.Body))
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, `{"access_token":"new","expires_in":28800,"scope":"user:inference"}`)
			}))
			defer srv.Close()
			c, err := over(t, srv.URL+"/v1/oauth/token", encoding).Force(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tc.decode(body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			gotHead := []string{
				head.Method, head.URL.String(), head.Header.Get("Content-Type"), head.Header.Get("Accept"),
				head.UserAgent(), head.Header.Get("Authorization"), fmt.Sprint(head.Close),
			}
			wantHead := []string{"POST", "/v1/oauth/token", tc.contentType, "application/json", "claudefs/test", "", "true"}
			if diff := cmp.Diff(wantHead, gotHead); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
			// Without a new refresh token the old one stays; the scopes are those that the server granted.
			if string(c.RefreshToken.Reveal()) != wireLogin.RefreshToken || string(c.AccessToken.Reveal()) != "new" {
				t.Error("got other tokens")
			}
			if diff := cmp.Diff([]string{"user:inference"}, c.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
		})
	}
}

func decodeForm(b []byte) (map[string]string, error) {
	v, err := url.ParseQuery(string(b))
	m := map[string]string{}
	for k := range v {
		m[k] = strings.Join(v[k], "|")
	}
	return m, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A token that the server calls ended already, or gives no end, is not asked for again at once.
func TestLifetimeFromTheWire(t *testing.T) {
	for expires, want := range map[string]time.Duration{"": time.Hour, `,"expires_in":-5`: time.Hour, `,"expires_in":60`: time.Minute, `,"expires_in":"90"`: 90 * time.Second} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"access_token":"new"%s}`, expires)
		}))
		c, err := over(t, srv.URL, refresh.EncodingJSON).Force(t.Context(), account)
		srv.Close()
		if err != nil {
			t.Errorf("%q: %v", expires, err)
			continue
		}
		if got := c.Lifetime().Round(time.Second); got != want {
			t.Errorf("%q: lifetime: got %v, want %v", expires, got, want)
		}
	}
}

// The refresh token goes to the token endpoint and nowhere else, once.
func TestRedirectIsNotFollowed(t *testing.T) {
	var elsewhere, here atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer evil.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		here.Store(0)
		mux := http.NewServeMux()
		mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
			here.Add(1)
			target := evil.URL
			if status == 308 {
				target = "/other" // another path of the same server is elsewhere too
			}
			http.Redirect(w, r, target, status)
		})
		mux.HandleFunc("/other", func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
		srv := httptest.NewServer(mux)
		_, err := over(t, srv.URL+"/token", refresh.EncodingJSON).Force(t.Context(), account)
		srv.Close()
		var ge *refresh.GrantError
		if !errors.As(err, &ge) || ge.Class != refresh.ClassConfig || ge.Status != status {
			t.Errorf("%d: got %v, want class config", status, err)
		}
		if got := here.Load(); got != 1 || elsewhere.Load() != 0 {
			t.Errorf("%d: got %d requests, and %d elsewhere", status, got, elsewhere.Load())
		}
	}
}

// Endpoints are compared as URLs are written on the wire.
func TestTokenURLIsNormalised(t *testing.T) {
	srv := refreshtest.Start(t, refreshtest.Config{})
	r := newRefresher(t, refresh.Config{
		Store: newMemory(credential(account, srv.NewLogin())), ClientID: clientID,
		TokenURL: strings.Replace(srv.URL, "http://", "HTTP://", 1),
	})
	if _, err := r.Force(t.Context(), account); err != nil {
		t.Error(err)
	}
}

// raw answers every connection with bytes of its own.
func raw(t *testing.T, answer func(net.Conn)) (url string, connections *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			answer(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String() + "/token", connections
}

// readRequest reads a whole request, so that closing the connection loses the answer and not the question.
func readRequest(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// What a broken server writes shows in no error, and the token was sent: the grant is in doubt.
func TestBrokenAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"closed":                "",
		"no HTTP":               "ECHO sk-ant-ort01-OLD\r\n\r\n",
		"bad status":            "HTTP/1.1 sk-ant-ort01-OLD ECHO\r\n\r\n",
		"bad header":            "HTTP/1.1 200 OK\r\nECHO sk-ant-ort01-OLD\r\n\r\n",
		"bad length":            "HTTP/1.1 200 OK\r\nContent-Length: ECHO sk-ant-ort01-OLD\r\n\r\n",
		"bad transfer encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: ECHO sk-ant-ort01-OLD\r\n\r\n",
		"truncated":             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"access_token\":\"ECHO sk-ant-ort01-OLD",
		"truncated chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz ECHO sk-ant-ort01-OLD",
	} {
		t.Run(name, func(t *testing.T) {
			url, connections := raw(t, func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, answer) })
			_, err := over(t, url, refresh.EncodingJSON).Force(t.Context(), account)
			var ge *refresh.GrantError
			if !errors.As(err, &ge) || ge.Class != refresh.ClassInDoubt {
				t.Errorf("got %v, want class in doubt", err)
			}
			wantSilent(t, err, "OLD")
			if got, want := connections.Load(), int32(4); got != want {
				t.Errorf("requests: got %d, want %d", got, want)
			}
		})
	}
}

// A connection that cannot be made, or whose TLS fails, has certainly not carried the token.
func TestUnsentOverTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	plain, _ := raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	for name, url := range map[string]string{
		"closed port": closed, "no TLS": strings.Replace(plain, "http:", "https:", 1), "unknown scheme": "ftp://127.0.0.1/token",
	} {
		_, err := over(t, url, refresh.EncodingJSON).Force(t.Context(), account)
		var ge *refresh.GrantError
		if !errors.As(err, &ge) || ge.Class != refresh.ClassUnsent {
			t.Errorf("%s: got %v, want class unsent", name, err)
		}
	}
}
