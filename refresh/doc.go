// Package refresh keeps access tokens fresh. It is the only package that speaks to the token endpoint.
//
// A grant (RFC 6749, section 6) goes: the account's lock among all processes, the record read again, an intent
// written durably, one POST, the new tokens committed and read back, and only then served. It runs detached from
// whoever asked: a reader may give up, the grant goes on, since a rotated refresh token must not be lost half-way.
// However many readers and processes want a token there is one grant.
//
// Refreshing late is deliberate: a rotation may revoke the old access token at once. A token that is still valid is
// served while the endpoint is slow, failing or gone.
//
// The package does not know who asked.
package refresh
