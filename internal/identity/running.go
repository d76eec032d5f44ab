package identity

import (
	"fmt"
	"strconv"
	"strings"
)

// CallerOf is the caller that a running process would be, for questions about it.
func CallerOf(pid uint32) (Caller, error) {
	b, err := kernel.entry(pid).read("status")
	if err != nil {
		return Caller{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	uid, err1 := fsID(string(b), "Uid:")
	gid, err2 := fsID(string(b), "Gid:")
	if err1 != nil || err2 != nil {
		return Caller{}, fmt.Errorf("look at process %d: %w", pid, errBadProc)
	}
	return Caller{TID: pid, UID: uid, GID: gid}, nil
}

// fsID reads the last of the four ids of a line of /proc/<pid>/status: real, effective, saved, file system.
func fsID(status, name string) (uint32, error) {
	ids := strings.Fields(statusField(status, name))
	if len(ids) != 4 {
		return 0, errBadProc
	}
	id, err := strconv.ParseUint(ids[3], 10, 32)
	return uint32(id), err
}
