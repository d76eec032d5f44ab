package keeper

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claudefs/claudefs/internal/fdstore"
)

var errNoDescriptor = errors.New("no descriptor came along")

// holder is the descriptors that are kept, by name.
type holder map[string]*os.File

func (h holder) names() []string { return slices.Sorted(maps.Keys(h)) }

// put keeps a descriptor, which it closes when there is no room for another: servers know the bound, and ask for no more.
func (h holder) put(name string, fd int) error {
	if fd < 0 {
		return errNoDescriptor
	}
	f := os.NewFile(uintptr(fd), name)
	if len(h) >= fdstore.MaxHeld && h[name] == nil {
		_ = f.Close()
		return fdstore.ErrFull
	}
	h.drop(name)
	h[name] = f
	return nil
}

func (h holder) drop(name string) {
	if f := h[name]; f != nil {
		_ = f.Close()
		delete(h, name)
	}
}

func (h holder) adopt(held map[string]int) error {
	var errs []error
	for name, fd := range held {
		errs = append(errs, h.put(name, fd))
	}
	return errors.Join(errs...)
}

func (h holder) close() {
	for name := range h {
		h.drop(name)
	}
}

// program is the file that last said it serves, nil for none.
func (h holder) program() *os.File { return h[fdstore.Exe] }

// hear acts on what a server says.
func (k *Keeper) hear(s *server, m message, w *watchdog) {
	var store, remove bool
	name := "stored"
	for _, line := range m.lines {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "FDSTORE":
			store = true
		case "FDSTOREREMOVE":
			remove = true
		case "FDNAME":
			name = value
		case "READY":
			k.ready(s, w)
		case "STOPPING":
			s.stopping = true
		case "STATUS":
			k.status.Message = value
		case "WATCHDOG":
			w.hear(value)
		case "WATCHDOG_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil {
				w.patience = time.Duration(us) * time.Microsecond
			}
		case "X_CLAUDEFS_SEALED_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil {
				k.sealedFor = time.Duration(us) * time.Microsecond
			}
		case "X_CLAUDEFS_STATE":
			k.status.path = value
		}
	}
	switch {
	case store && name == fdstore.Exe:
		k.renew(m.fd)
	case store:
		if err := k.held.put(name, m.fd); err != nil {
			k.cfg.Log.Warn("Descriptor is not kept; it ends with the server", "name", name, "err", err)
		}
	case remove && name != fdstore.Exe: // the program that serves is replaced, never just dropped
		k.held.drop(name)
	case m.fd >= 0:
		_ = os.NewFile(uintptr(m.fd), "stray").Close()
	}
}

// renew takes the program that serves now. The one before it stays for a while.
func (k *Keeper) renew(fd int) {
	if fd < 0 {
		k.cfg.Log.Warn("Program is not kept", "err", errNoDescriptor)
		return
	}
	f := os.NewFile(uintptr(fd), fdstore.Exe)
	if old := k.held.program(); old != nil && sameFile(old, f) {
		_ = f.Close()
		return
	}
	if k.previous != nil {
		_ = k.previous.Close()
	}
	k.previous, k.since = k.held[fdstore.Exe], time.Now()
	if k.previous == nil && !sameFile(k.cfg.Exe, f) {
		k.previous = k.cfg.Exe
	}
	k.held[fdstore.Exe] = f
}

func sameFile(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// ready notes that the mount answers.
func (k *Keeper) ready(s *server, w *watchdog) {
	s.ready, w.last, k.fallen = true, time.Now(), time.Time{}
	k.stopRefusing()
	k.status.Message = ""
	k.write(Serving) // before anybody hears that it serves, and asks
	if k.cfg.Ready != nil {
		k.cfg.Ready()
		k.cfg.Ready = nil
	}
	k.stop(s)
}
