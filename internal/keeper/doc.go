// Package keeper holds a mount while the server that answers for it dies and comes again. It is a process of its own,
// with the connection's descriptors and nothing else: it reads no configuration, no policy and no secret, opens no
// network connection, and gives up its capabilities.
//
// It starts the server, keeps what the server hands over (internal/fdstore has the messages, which are systemd's), and
// starts it again when it ends unasked. A server that does not come up leaves the mount without an answer for a moment
// (Config.Grace); then the keeper answers every request with EIO, so that nobody hangs, notes what the next server has to
// know of that (fdstore.Refused), and goes on trying. A server that hangs while requests wait is killed.
//
// The server watches the keeper in turn: if the keeper dies the server starts another one, which adopts it.
package keeper
