// Package credfile reads and writes the client's .credentials.json.
//
// The file is one JSON object. Its member claudeAiOauth holds the login; every other top-level member (mcpOAuth,
// pluginSecrets, …) belongs to the client and is kept as it came. Parse is strict where a mistake could lose or mix
// up a login: it refuses doubled keys, wrong types, a login without scopes and anything larger than MaxSize. It
// reports where the mistake is, and never quotes the content.
package credfile
