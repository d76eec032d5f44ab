package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/vault"
)

func recordPath(dir, kind, name string) string { return filepath.Join(dir, kind, name+".sealed") }

func TestStoreAndLoad(t *testing.T) {
	v, dir := create(t)
	want := credential("work")
	want.Intent = &vault.Intent{ID: "1", At: time.UnixMilli(1790000000000).UTC()}
	version := store(t, v, want, vault.Version{})
	for name, v := range map[string]*vault.Vault{"same": v, "another process": again(t, dir)} {
		got, its, err := v.Load("work")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: credential (-want +got):\n%s", name, diff)
		}
		if its != version {
			t.Errorf("%s: got another version", name)
		}
	}
	if _, _, err := v.Load("other"); !errors.Is(err, vault.ErrNotFound) || !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestStoreKeepsEveryField(t *testing.T) {
	v, _ := create(t)
	version := vault.Version{}
	rapid.Check(t, func(rt *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(rt, name) }
		when := func(name string) time.Time { return time.UnixMilli(rapid.Int64Range(1, 1e14).Draw(rt, name)) }
		want := &vault.Credential{
			Account: "any", Kind: vault.Kind(rapid.SampledFrom([]string{"", "api-key"}).Draw(rt, "kind")), AccessToken: vault.NewSecret([]byte(text("access"))), RefreshToken: vault.NewSecret([]byte(text("refresh"))),
			ExpiresAt: when("expires"), IssuedAt: when("issued"), RotatedAt: when("rotated"),
			Generation: rapid.Uint64().Draw(rt, "generation"), Scopes: rapid.SliceOfN(rapid.String(), 1, 4).Draw(rt, "scopes"),
			SubscriptionType: text("subscription"), RateLimitTier: text("tier"), State: vault.StateHold, Why: text("why"),
		}
		var err error
		if version, err = v.Store(want, version); err != nil {
			rt.Fatal(err)
		}
		got, _, err := v.Load("any")
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Errorf("credential (-want +got):\n%s", diff)
		}
	})
}

func TestStoreConflict(t *testing.T) {
	v, dir := create(t)
	first := store(t, v, credential("work"), vault.Version{})
	second := store(t, v, credential("work"), first)
	before, _ := os.ReadFile(recordPath(dir, "accounts", "work"))
	for name, stale := range map[string]vault.Version{"none": {}, "older": first, "foreign": {1}} {
		if _, err := v.Store(credential("work"), stale); !errors.Is(err, vault.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
	if _, err := v.Store(credential("missing"), second); !errors.Is(err, vault.ErrConflict) {
		t.Errorf("missing record: got %v, want ErrConflict", err)
	}
	if after, _ := os.ReadFile(recordPath(dir, "accounts", "work")); !bytes.Equal(before, after) {
		t.Error("a refused store changed the record")
	}
}

// A record that cannot be read is refused with the right error, and neither Load nor Store touches it.
func TestUnreadableRecords(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(b []byte) []byte
		want  error
	}{
		{"empty", func([]byte) []byte { return nil }, vault.ErrCorrupt},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, vault.ErrCorrupt},
		{"longer", func(b []byte) []byte { return append(b, 0) }, vault.ErrCorrupt},
		{"bit flipped in the nonce", func(b []byte) []byte { b[6] ^= 1; return b }, vault.ErrCorrupt},
		{"bit flipped in the text", func(b []byte) []byte { b[600] ^= 1; return b }, vault.ErrCorrupt},
		{"bit flipped in the tag", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, vault.ErrCorrupt},
		{"not a record", func([]byte) []byte { return []byte(`{"access_token":"` + token + `"}`) }, vault.ErrCorrupt},
		{"older version", func(b []byte) []byte { b[4] = 0; return b }, vault.ErrCorrupt},
		{"newer version", func(b []byte) []byte { b[4]++; return b }, vault.ErrNewer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, dir := create(t)
			version := store(t, v, credential("work"), vault.Version{})
			path := recordPath(dir, "accounts", "work")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			spoilt := tc.spoil(b)
			if err := os.WriteFile(path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err = again(t, dir).Load("work")
			if !errors.Is(err, tc.want) || leaks(fmt.Sprint(err)) != "" {
				t.Errorf("load: got %v, want %v", err, tc.want)
			}
			for _, want := range []vault.Version{{}, version} {
				if _, err := v.Store(credential("work"), want); !errors.Is(err, vault.ErrConflict) {
					t.Errorf("store: got %v, want ErrConflict", err)
				}
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, spoilt) {
				t.Error("the record was overwritten")
			}
		})
	}
}

// A record is good under its own name, kind and vault only.
func TestRecordElsewhere(t *testing.T) {
	v, dir := create(t)
	store(t, v, credential("work"), vault.Version{})
	b, err := os.ReadFile(recordPath(dir, "accounts", "work"))
	if err != nil {
		t.Fatal(err)
	}
	other, otherDir := create(t)
	if _, err := v.StoreDocument("web", vault.NewSecret([]byte("{}")), vault.Version{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(recordPath(dir, "trees", "web"), recordPath(dir, "trees", "shop")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.LoadDocument("shop"); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("another tree's document: got %v, want ErrCorrupt", err)
	}
	for _, path := range []string{
		recordPath(dir, "accounts", "renamed"), recordPath(dir, "trees", "work"), recordPath(otherDir, "accounts", "work"),
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := v.Load("renamed"); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("renamed: got %v, want ErrCorrupt", err)
	}
	if _, _, err := v.LoadDocument("work"); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("as a document: got %v, want ErrCorrupt", err)
	}
	if _, _, err := other.Load("work"); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("in another vault: got %v, want ErrCorrupt", err)
	}
}

// A name that is a path reaches nothing outside of the vault.
func TestNames(t *testing.T) {
	v, dir := create(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\nb", "a\x00b", strings.Repeat("x", 64), "é"} {
		if _, err := vault.ParseAccountID(name); err == nil {
			t.Errorf("%q: ParseAccountID took it", name)
		}
		if _, _, err := v.Load(vault.AccountID(name)); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%q: Load: got %v, want ErrNotFound", name, err)
		}
		if _, _, err := v.LoadDocument(name); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%q: LoadDocument: got %v, want ErrNotFound", name, err)
		}
		if _, err := v.Store(credential(vault.AccountID(name)), vault.Version{}); err == nil {
			t.Errorf("%q: Store took it", name)
		}
		if _, err := v.StoreDocument(name, vault.NewSecret([]byte("x")), vault.Version{}); err == nil {
			t.Errorf("%q: StoreDocument took it", name)
		}
		if v.Remove(vault.AccountID(name)) == nil {
			t.Errorf("%q: Remove took it", name)
		}
		if release, err := v.Exclusive(t.Context(), vault.AccountID(name)); err == nil {
			release()
			t.Errorf("%q: Exclusive took it", name)
		}
	}
	if got, _ := filepath.Glob(filepath.Join(dir, "*.grant")); got != nil {
		t.Errorf("files outside of accounts: %q", got)
	}
}

// The length of a file tells nothing of what is in it, and the file shows none of it.
func TestPaddedSize(t *testing.T) {
	v, dir := create(t)
	sizes := map[int64]bool{}
	version := vault.Version{}
	for _, n := range []int{0, 1, 100, 1000, 3000} {
		c := credential("work")
		c.RefreshToken = vault.NewSecret([]byte(strings.Repeat("x", n)))
		version = store(t, v, c, version)
		st, err := os.Stat(recordPath(dir, "accounts", "work"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("mode: got %v, want 0600", st.Mode())
		}
		sizes[st.Size()] = true
	}
	if len(sizes) != 1 {
		t.Errorf("got sizes %v, want one", sizes)
	}
	store(t, v, credential("work"), version)
	if b, _ := os.ReadFile(recordPath(dir, "accounts", "work")); bytes.Contains(b, []byte(token)) || bytes.Contains(b, []byte("work")) {
		t.Error("the file shows its content")
	}
}

func TestAccounts(t *testing.T) {
	v, dir := create(t)
	for _, a := range []vault.AccountID{"work", "default", "a.b-c_1"} {
		store(t, v, credential(a), vault.Version{})
	}
	v.Lock()
	got, err := v.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]vault.AccountID{"a.b-c_1", "default", "work"}, got); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	v = again(t, dir)
	if err := v.Remove("work"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Load("work"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("load removed: got %v, want ErrNotFound", err)
	}
	if err := v.Remove("work"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("remove again: got %v, want ErrNotFound", err)
	}
}

func TestDocuments(t *testing.T) {
	v, dir := create(t)
	doc := vault.NewSecret([]byte(`{"mcpOAuth":{}}`))
	version, err := v.StoreDocument("web", doc.Clone(), vault.Version{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.StoreDocument("web", doc.Clone(), vault.Version{}); !errors.Is(err, vault.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	got, its, err := again(t, dir).LoadDocument("web")
	if err != nil || !got.Equal(doc) || its != version {
		t.Errorf("got another document or version, %v", err)
	}
}

// Two processes share a vault: each sees what the other stored, however fast the records follow each other.
func TestLoadSeesOtherProcess(t *testing.T) {
	reader, dir := create(t)
	writer := again(t, dir)
	c := credential("work")
	version := store(t, writer, c, vault.Version{})
	for range 100 {
		if _, _, err := reader.Load("work"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c.Generation++
			version = store(t, writer, c, version)
		}
		wantGeneration(t, reader, c.Generation)
	}
}

// Within one tick of the clock of file times a record can come back with the inode, size and time of the one before
// the last. The test makes such a file by hand.
func TestLoadWithinOneTick(t *testing.T) {
	reader, dir := create(t)
	path := recordPath(dir, "accounts", "work")
	var contents [2][]byte
	version := vault.Version{}
	for i := range contents {
		c := credential("work")
		c.Generation = uint64(i)
		version = store(t, again(t, dir), c, version)
		contents[i], _ = os.ReadFile(path)
	}
	now := time.Now()
	for i, b := range contents {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
		wantGeneration(t, reader, uint64(i))
	}
}

func wantGeneration(t *testing.T, v *vault.Vault, want uint64) {
	t.Helper()
	c, _, err := v.Load("work")
	if err != nil {
		t.Fatal(err)
	}
	if c.Generation != want {
		t.Fatalf("got generation %d, want %d", c.Generation, want)
	}
}

// While nothing changes a record is decrypted once: one that is damaged in place, unseen, is still served.
func TestLoadIsCached(t *testing.T) {
	v, dir := create(t)
	store(t, v, credential("work"), vault.Version{})
	path := recordPath(dir, "accounts", "work")
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []bool{true, false} {
		if _, _, err := v.Load("work"); err != nil {
			t.Fatalf("load: %v", err)
		}
		b, _ := os.ReadFile(path)
		if spoil {
			b[600] ^= 1
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	v.Lock()
	if err := v.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Load("work"); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("after Lock: got %v, want ErrCorrupt: nothing decrypted may be kept", err)
	}
}

func TestExclusive(t *testing.T) {
	v, dir := create(t)
	release, err := v.Exclusive(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	other := again(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := other.Exclusive(ctx, "work"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held: got %v, want DeadlineExceeded", err)
	}
	elsewhere, err := other.Exclusive(t.Context(), "other")
	if err != nil {
		t.Fatalf("another account: %v", err)
	}
	elsewhere()
	release()
	release, err = other.Exclusive(t.Context(), "work")
	if err != nil {
		t.Fatalf("released: %v", err)
	}
	release()
}
