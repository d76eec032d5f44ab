package endpoint_test

import (
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/endpoint"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"https://api.anthropic.com":           "https://api.anthropic.com",
		"https://api.anthropic.com/":          "https://api.anthropic.com",
		"HTTPS://Gateway.Example.COM:443/v1/": "https://gateway.example.com/v1",
		"https://gateway.example.com:8443/A":  "https://gateway.example.com:8443/A",
		"http://127.0.0.1:4000":               "http://127.0.0.1:4000",
		"http://localhost:80/":                "http://localhost",
		"http://[::1]:4000/x":                 "http://[::1]:4000/x",
		"https://[2001:DB8:0:0::1]/":          "https://[2001:db8::1]",
		"https://10.0.0.1":                    "https://10.0.0.1",
	} {
		e, err := endpoint.Parse(in)
		if err != nil || e.String() != want {
			t.Errorf("%s: got %s, %v, want %s", in, e, err, want)
		}
		if again, err := endpoint.Parse(e.String()); err != nil || again != e {
			t.Errorf("%s: its one spelling reads as %s, %v", in, again, err)
		}
	}
}

// Each is another place to some program, or no place at all.
func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"", "api.anthropic.com", "//api.anthropic.com", "https:api.anthropic.com", "https:///x", "ftp://a.example", "https://",
		"http://api.anthropic.com", "http://127.0.0.1.example.com", "http://10.0.0.1", "http://localhost.example.com",
		"https://user@a.example", "https://user:pw@a.example", "https://a.example@b.example",
		"https://a.example/?x=1", "https://a.example/#x", "https://a.example?", "https://a.example#",
		"https://a.example/../b", "https://a.example/b/./c", "https://a.example//b", "https://a.example/b//", "https://a.example/%2e%2e/b", `https://a.example\b`,
		"https://a.example/b c", "https://a.example\n", " https://a.example", "https://a.example:0443", "https://a.example:",
		"https://bücher.example", "https://2130706433", "https://0x7f.1", "https://127.1", "http://0177.0.0.1", "https://a.example.",
		"https://[fe80::1%25eth0]", "https://a_b.example", "https://a.example:99999x", "https://a.example:-1",
	} {
		if e, err := endpoint.Parse(in); err == nil {
			t.Errorf("%q: accepted as %s", in, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, in := range []string{"https://a.example/b", "http://127.0.0.1:1", "https://[::1]:443/", "https://u:p@x/?q#f", "https://a/%2e"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		e, err := endpoint.Parse(in)
		if err != nil {
			if len(in) > 12 && strings.Contains(err.Error(), in) {
				t.Errorf("%q: the error quotes it", in)
			}
			return
		}
		again, err := endpoint.Parse(e.String())
		if err != nil || again != e {
			t.Errorf("%q: %s reads as %s, %v", in, e, again, err)
		}
	})
}
