package sentinel_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"testing"

	"github.com/claudefs/claudefs/internal/sentinel"
)

func TestNew(t *testing.T) {
	a, b := sentinel.New("login required", iofs.ErrPermission), sentinel.New("login required", iofs.ErrPermission)
	wrapped := fmt.Errorf("refresh work: %w", a)
	if got, want := wrapped.Error(), "refresh work: login required"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(wrapped, a) || !errors.Is(wrapped, iofs.ErrPermission) || errors.Is(wrapped, iofs.ErrNotExist) || errors.Is(a, b) {
		t.Error("it is not what it should be")
	}
}
