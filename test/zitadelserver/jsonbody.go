package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds a request body, in bytes.
const maxBody = 64 << 10

// acceptJSON lets the token endpoint take application/json too. RFC 6749 knows
// form bodies only, Claude Code sends a JSON object: its members become form
// fields, and the library never sees the difference. Any other content type
// passes unchanged.
func acceptJSON(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mediaType != "application/json" {
			next(w, r)
			return
		}
		form, err := formOfJSON(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeInvalidRequest(w, "The request body is not a flat JSON object.")
			return
		}
		body := form.Encode()
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		next(w, r)
	}
}

// formOfJSON reads one flat JSON object. Strings, numbers and booleans become
// their text; null means absent; a nested value is an error.
func formOfJSON(body io.Reader) (url.Values, error) {
	decoder := json.NewDecoder(body)
	decoder.UseNumber() // 1e3 and large integers keep their spelling
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, fmt.Errorf("null is not an object")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("data after the object")
	}
	form := url.Values{}
	for name, value := range object {
		switch v := value.(type) {
		case nil:
		case string, json.Number, bool:
			form.Set(name, fmt.Sprint(v))
		default:
			return nil, fmt.Errorf("member %q is not a scalar", name)
		}
	}
	return form, nil
}

// writeInvalidRequest answers what never reaches the library, in its format
// (RFC 6749 section 5.2).
func writeInvalidRequest(w http.ResponseWriter, description string) {
	writeJSON(w, http.StatusBadRequest, map[string]string{
		"error": "invalid_request", "error_description": description,
	})
}

// writeJSON sends value. A write error means the client has gone.
func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
