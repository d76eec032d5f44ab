// Package fdstore is the server's side of a descriptor store: whoever holds its descriptors when it dies, and hands them
// to the next one. That is systemd (FDSTORE=1 on $NOTIFY_SOCKET, descriptors back by sd_listen_fds(3)) or a keeper of
// our own (internal/keeper), which speaks the same messages over a socket that only the two have.
//
// The store keeps copies of what it handed over, so that a keeper that dies can be replaced.
package fdstore
