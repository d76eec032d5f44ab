package refreshtest

// File is the login as a .credentials.json, to be marshalled.
func (l Login) File() map[string]any {
	return map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": l.AccessToken, "refreshToken": l.RefreshToken, "expiresAt": l.ExpiresAt.UnixMilli(),
		"scopes": l.Scopes, "subscriptionType": "max", "rateLimitTier": "default_claude_max_5x",
	}}
}
