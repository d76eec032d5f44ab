package serve

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const opGetattr = 3

// Prove reports whether a server of this program could take over a connection that began with this INIT exchange:
// ErrOtherInit when it would have negotiated otherwise. It then answers one request, for the root's attributes, over a
// connection of its own.
func Prove(fs fuse.RawFileSystem, opts fuse.MountOptions, request, saved []byte) error {
	if len(request) == 0 {
		return nil
	}
	server, kernel, _, reply, err := negotiate(fs, opts, request)
	if err != nil {
		return err
	}
	if !sameInit(reply, saved) {
		return ErrOtherInit
	}
	go server.Serve() // ends with the process, which is here for the proof alone
	getattr := make([]byte, 56)
	binary.LittleEndian.PutUint32(getattr, uint32(len(getattr)))
	binary.LittleEndian.PutUint32(getattr[4:], opGetattr)
	binary.LittleEndian.PutUint64(getattr[8:], 2)
	binary.LittleEndian.PutUint64(getattr[16:], rootID)
	if _, err := unix.Write(kernel, getattr); err != nil {
		return fmt.Errorf("ask the new server: %w", err)
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(kernel, answer)
	switch {
	case err != nil:
		return fmt.Errorf("hear the new server: %w", err)
	case n < 16 || binary.LittleEndian.Uint32(answer[4:]) != 0:
		return errors.New("the new server does not answer a request for the root's attributes")
	}
	return nil
}
