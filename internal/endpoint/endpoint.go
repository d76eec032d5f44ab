// Package endpoint compares the base URLs that a client may send its requests to.
package endpoint

import (
	"errors"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// Endpoint is a base URL in its one spelling: scheme and host in lower case, no default port, no slash at the end. The
// zero value is none.
type Endpoint struct{ text string }

// String is the one spelling.
func (e Endpoint) String() string { return e.text }

// Errors of Parse. None quotes the text: what stands in a container's settings may be a secret in the wrong place.
var (
	errForm   = errors.New("want a base URL such as https://gateway.example.com/claude")
	errUser   = errors.New("has a user or password; want a base URL without")
	errExtra  = errors.New("has a query or fragment; want a base URL without")
	errPath   = errors.New("has a path with .., %, \\ or //; want a plain one")
	errHost   = errors.New("want a host of letters, digits, dots and hyphens, or an address")
	errScheme = errors.New("http is for loopback only, as http://127.0.0.1:4000; want https")
)

// Parse reads a base URL. It refuses every spelling that two programs could read as two places.
func Parse(text string) (Endpoint, error) {
	u, err := url.Parse(text)
	switch {
	// The parser's text is not passed on: it quotes the URL.
	case err != nil || u.Host == "" || u.Opaque != "" || strings.ContainsAny(text, " \t\r\n"):
		return Endpoint{}, errForm
	case u.User != nil:
		return Endpoint{}, errUser
	case strings.ContainsAny(text, "?#"):
		return Endpoint{}, errExtra
	case strings.ContainsAny(text, `\%`) || u.Path != "" && strings.TrimSuffix(path.Clean(u.Path), "/") != strings.TrimSuffix(u.Path, "/"):
		return Endpoint{}, errPath
	}
	host, ok := hostOf(u)
	switch {
	case !ok:
		return Endpoint{}, errHost
	case u.Scheme != "https" && u.Scheme != "http":
		return Endpoint{}, errForm
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return Endpoint{}, errScheme
	}
	return Endpoint{u.Scheme + "://" + host + strings.TrimSuffix(u.Path, "/")}, nil
}

// hostOf is host and port in one spelling.
func hostOf(u *url.URL) (string, bool) {
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if addr, err := netip.ParseAddr(name); err == nil { // without a zone: Parse takes no %
		if name = addr.String(); addr.Is6() {
			name = "[" + name + "]"
		}
	} else if !plainName(name) {
		return "", false
	}
	if strings.HasSuffix(u.Host, ":") || strings.HasPrefix(port, "0") {
		return "", false
	}
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return name, true
	}
	return name + ":" + port, true
}

// plainName reports whether a host is spelled in ASCII and is no number: some programs read 2130706433, 0x7f.1 or 127.1
// as addresses.
func plainName(name string) bool {
	if strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.')
	}) {
		return false
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && 'a' <= last[0] && last[0] <= 'z'
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || strings.EqualFold(host, "localhost")
}
