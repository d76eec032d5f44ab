// Package settings reads, joins and filters the client's settings.json. It is pure: bytes in, bytes out.
//
// A tree's settings.json is made of two files: the host's base, which no container can write, and the tree's own. What
// the client is shown is [Merge] of both, each filtered; it writes the whole file back, and [Split] finds what of it is
// the tree's own.
//
// The firewall is [Filter] for what a tree wrote and [FilterBase] for the base. The client lets settings choose where
// its requests go, whom it trusts on the way and with which credential it signs them; a file in the tree could so send
// the account's token elsewhere, or have it not used at all. The firewall takes these keys out. It does not look at what
// runs programs (hooks, statusLine, MCP servers): a program in the container may do what the container may, and read
// the credential file itself.
//
// Documents keep unknown keys, their order and the spelling of numbers and strings. Parse is strict where two readers
// could read two things: doubled keys, bad UTF-8. Errors say where a mistake is, and never quote the content.
package settings
