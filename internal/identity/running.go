package identity

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CallerOf is the caller that a running process would be, for questions about it.
func CallerOf(pid uint32) (Caller, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Caller{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	defer f.Close()
	c := Caller{TID: pid}
	found := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		ids := strings.Fields(value)
		if key != "Uid" && key != "Gid" || len(ids) != 4 {
			continue
		}
		id, err := strconv.ParseUint(ids[3], 10, 32) // real, effective, saved, file system
		if err != nil {
			return Caller{}, fmt.Errorf("look at process %d: %w", pid, errBadProc)
		}
		found++
		if key == "Uid" {
			c.UID = uint32(id)
		} else {
			c.GID = uint32(id)
		}
	}
	if found != 2 {
		return Caller{}, fmt.Errorf("look at process %d: %w", pid, errBadProc)
	}
	return c, nil
}
