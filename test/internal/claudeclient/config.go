package claudeclient

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Quiet returns a .claude.json with which the interactive client asks nothing
// in a fresh config directory: no onboarding, no question of trust for the given
// working directories. `claude -p` asks nothing even without the file.
func Quiet(workDirs ...string) []byte {
	projects := make(map[string]any, len(workDirs))
	for _, dir := range workDirs {
		projects[dir] = map[string]any{"hasTrustDialogAccepted": true}
	}
	doc, err := json.Marshal(map[string]any{
		"hasCompletedOnboarding": true,
		"projects":               projects,
	})
	if err != nil {
		panic(err) // maps of strings and bools always marshal
	}
	return doc
}

// Credentials returns a .credentials.json with the given access token and a
// null refreshToken, which the client never writes back.
func Credentials(accessToken string) []byte {
	doc, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken":      accessToken,
		"refreshToken":     nil,
		"expiresAt":        time.Now().Add(8 * time.Hour).UnixMilli(),
		"scopes":           []string{"user:inference", "user:profile"},
		"subscriptionType": "max",
		"rateLimitTier":    "default_claude_max_5x",
	}})
	if err != nil {
		panic(err) // as above
	}
	return doc
}

// WriteCredentials replaces .credentials.json in configDir by rename, as a
// rotation does. The client looks at the mtime only, so the new one is made to
// be at least 1 ms later than the old one.
func WriteCredentials(configDir, accessToken string) error {
	path := filepath.Join(configDir, ".credentials.json")
	tmp := path + ".new"
	if err := os.WriteFile(tmp, Credentials(accessToken), 0o600); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	mtime := time.Now()
	if old, err := os.Stat(path); err == nil && mtime.Before(old.ModTime().Add(time.Millisecond)) {
		mtime = old.ModTime().Add(time.Millisecond)
	}
	if err := os.Chtimes(tmp, mtime, mtime); err != nil {
		return fmt.Errorf("set time of credentials: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("publish credentials: %w", err)
	}
	return nil
}
