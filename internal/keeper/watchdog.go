package keeper

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// watchdog judges whether a server still answers.
type watchdog struct {
	patience time.Duration // 0: none
	begun    time.Time     // when the server was started
	last     time.Time     // its last sign of life
	hung     bool          // it says itself that a request does not end
	killed   time.Time
}

// hear takes WATCHDOG=1, or WATCHDOG=trigger from a server that knows that it hangs.
func (w *watchdog) hear(value string) {
	w.last, w.hung = time.Now(), value == "trigger"
}

// overdue reports whether the server has to be killed. A silent one may live on while nobody asks anything of it: it
// may be stopped for a reason.
func (w *watchdog) overdue(h holder) bool {
	if w.hung {
		return true
	}
	return w.patience > 0 && time.Since(w.last) > w.patience && waiting(h)
}

// waiting reports whether requests have no answer yet; without fusectl, whether any waits to be read.
func waiting(h holder) bool {
	if f := h[fdstore.Waiting]; f != nil {
		text := make([]byte, 32)
		if n, err := f.ReadAt(text, 0); n > 0 && (err == nil || errors.Is(err, io.EOF)) {
			return strings.TrimSpace(string(text[:n])) != "0"
		}
	}
	f := h[fdstore.Device]
	if f == nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLIN != 0
}

// dumpTime is how long a hung server has to write where it hangs.
const dumpTime = 2 * time.Second

// kill asks for a dump of goroutines first; a stopped server cannot write one.
func (w *watchdog) kill(s *server) {
	if w.killed.IsZero() {
		w.killed = time.Now()
		s.signal(syscall.SIGQUIT)
	}
	if time.Since(w.killed) >= dumpTime || !w.hung {
		s.signal(syscall.SIGKILL)
	}
}

// unmounted reports whether the file system is gone for good.
func (k *Keeper) unmounted() bool {
	f := k.held[fdstore.Device]
	if f == nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
}
