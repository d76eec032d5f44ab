// Package credfile reads and writes the client's .credentials.json.
//
// The file is one JSON object. Its member claudeAiOauth holds the login; every other top-level member (mcpOAuth,
// pluginSecrets, …) belongs to the client and is kept as it came. Parse is strict where a mistake could lose or mix
// up a login: it refuses doubled keys, wrong types and anything larger than MaxSize; keys count as the client reads
// them, in exact case. CheckLogin refuses what cannot be a login, such as one without scopes. Errors say where the
// mistake is, and never quote the content.
package credfile
