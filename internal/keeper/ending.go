package keeper

import (
	"fmt"
	"syscall"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// ending is how a server ended.
type ending struct {
	code        int
	asked       bool // it ended on purpose
	served      bool // the mount answered
	neverServed bool
	self        bool // it ended by itself, or hung
	reason      string
}

func (s *server) ended(status syscall.WaitStatus, w *watchdog) ending {
	e := ending{served: s.ready, neverServed: !s.ready, asked: s.stopping && !status.Signaled()}
	switch {
	case !w.killed.IsZero():
		e.self, e.reason = true, "it did not answer and was killed"
	case status.Signaled():
		e.reason = "signal " + status.Signal().String()
		e.self = status.Signal() != syscall.SIGKILL && status.Signal() != syscall.SIGTERM
		e.code = 128 + int(status.Signal())
	default:
		e.code, e.self = status.ExitStatus(), true
		e.reason = fmt.Sprintf("exit code %d", e.code)
	}
	return e
}

// kind is what the next server is told.
func (e ending) kind() string {
	if e.self {
		return fdstore.EndSelf
	}
	return fdstore.EndOther
}
