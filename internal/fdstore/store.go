package fdstore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Names of descriptors that every server knows. Others are orphans of the file system's.
const (
	Device = "fuse"   // /dev/fuse of the mount
	Ledger = "ledger" // internal/ledger
	Sealed = "sealed" // internal/sealed
	// For keepers, and servers hand them from one to the next: the files of fusectl that tell how many requests have no
	// answer, and end the connection; and the program that serves.
	Waiting = "waiting"
	Abort   = "abort"
	Exe     = "exe"
	// From the keeper: what it did in place of a server. Store.Refused reads it.
	Refusals = "refused"
)

// MaxHeld bounds what a holder keeps: a keeper, and systemd by FileDescriptorStoreMax= of the unit.
const MaxHeld = 512

// reserved is the part of it for the names above, and for those of later programs: a mount is not to be lost because
// too many files are kept.
const reserved = 16

// ErrFull: no room for another descriptor.
var ErrFull = errors.New("too many descriptors are kept already")

// Variables that carry the store into a process.
const (
	// Var lists inherited descriptors as name:number, comma between; the keeper's socket is called "keeper".
	Var = "CLAUDEFS_FDS"
	// EndVar says how the server before this one ended: EndSelf or EndOther.
	EndVar   = "CLAUDEFS_LAST_END"
	EndSelf  = "self"
	EndOther = "other"

	keeperName = "keeper"
)

// Kind says who holds the descriptors.
type Kind string

// The kinds of holders.
const (
	None    Kind = "none" // nobody: everything ends with the process
	Keeper  Kind = "keeper"
	Systemd Kind = "systemd"
)

// Store is the descriptors that outlive this process. It is safe for concurrent use.
type Store struct {
	kind   Kind
	notify string // path of systemd's socket

	mu     sync.Mutex
	socket int // the keeper's, -1 for none
	held   map[string]int
}

// Inherited takes the descriptors that the environment names, and their variables out of it: no child is to have
// either. systemd's are taken only if they are this process's.
func Inherited(getenv func(string) string, unsetenv func(string) error) (map[string]int, error) {
	list := getenv(Var)
	if list == "" && getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		list = listenList(getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"))
	}
	for _, v := range []string{Var, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := unsetenv(v); err != nil {
			return nil, fmt.Errorf("inherit descriptors: %w", err)
		}
	}
	held := map[string]int{}
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue
		}
		name, number, ok := strings.Cut(item, ":")
		fd, err := strconv.Atoi(number)
		if !ok || err != nil {
			return nil, fmt.Errorf("inherit descriptors: %s has %q", Var, item)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("inherit descriptor %s: %w", name, err)
		}
		if _, twice := held[name]; twice { // a server died between keeping a new one and dropping the old
			_ = unix.Close(fd)
			continue
		}
		held[name] = fd
	}
	return held, nil
}

// listenList writes systemd's variables as ours. Descriptors begin at 3.
func listenList(count, names string) string {
	n, _ := strconv.Atoi(count)
	given := strings.Split(names, ":")
	var list []string
	for i := range n {
		name := "unknown-" + strconv.Itoa(i)
		if i < len(given) && given[i] != "" {
			name = given[i]
		}
		list = append(list, name+":"+strconv.Itoa(3+i))
	}
	return strings.Join(list, ",")
}

// New makes a store of what was inherited. A keeper's socket among it makes the keeper the holder; else notify is the
// path of systemd's socket, or empty for no holder.
func New(inherited map[string]int, notify string) *Store {
	s := &Store{kind: None, notify: notify, socket: -1, held: inherited}
	if fd, ok := inherited[keeperName]; ok {
		delete(inherited, keeperName)
		s.kind, s.socket = Keeper, fd
	} else if notify != "" {
		s.kind = Systemd
	}
	return s
}

// Kind says who holds the descriptors.
func (s *Store) Kind() Kind { return s.kind }

// Take returns a copy of a kept descriptor; it stays kept.
func (s *Store) Take(name string) (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.held[name]
	if !ok {
		return -1, false
	}
	fd, err := unix.FcntlInt(uintptr(kept), unix.F_DUPFD_CLOEXEC, 3)
	return fd, err == nil
}

// Has reports whether a descriptor is kept.
func (s *Store) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.held[name]
	return ok
}

// Names lists what is kept.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.held))
}

// Keep has a copy of fd kept until Drop, or reports why it is not: ErrFull when there is no room. Without a holder it
// does nothing.
func (s *Store) Keep(name string, fd int) error {
	if s.kind == None {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, again := s.held[name]
	if !again && !known(name) && s.others() >= MaxHeld-reserved {
		return fmt.Errorf("keep descriptor %s: %w", name, ErrFull)
	}
	kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("keep descriptor %s: %w", name, err)
	}
	if again {
		// A store may hold several of one name; the old one goes first.
		_ = s.send(nil, "FDSTOREREMOVE=1", "FDNAME="+name)
		_ = unix.Close(old)
		delete(s.held, name)
	}
	err = s.send([]int{kept}, "FDSTORE=1", "FDNAME="+name, "FDPOLL=0")
	if err != nil && !s.gone(err) {
		_ = unix.Close(kept)
		return fmt.Errorf("keep descriptor %s: %w", name, err)
	}
	s.held[name] = kept
	return nil
}

// gone reports whether a message was not sent because the keeper has died. Renew hands its successor all that is kept.
func (s *Store) gone(err error) bool {
	return s.kind == Keeper && (errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET))
}

func known(name string) bool {
	switch name {
	case Device, Ledger, Sealed, Waiting, Abort, Exe, Refusals:
		return true
	}
	return false
}

// others counts what is kept under no known name; s.mu is held.
func (s *Store) others() (n int) {
	for name := range s.held {
		if !known(name) {
			n++
		}
	}
	return n
}

// Drop ends Keep.
func (s *Store) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fd, ok := s.held[name]; ok {
		_ = s.send(nil, "FDSTOREREMOVE=1", "FDNAME="+name)
		_ = unix.Close(fd)
		delete(s.held, name)
	}
}

// Environment returns the variable for a program that this process becomes by execve(2), and lets the descriptors
// live on in it. A systemd store is found by it too, for its socket's path goes along.
func (s *Store) Environment() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.held)
	if s.socket >= 0 {
		all[keeperName] = s.socket
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if _, err := unix.FcntlInt(uintptr(all[name]), unix.F_SETFD, 0); err != nil {
			return nil, fmt.Errorf("hand over descriptor %s: %w", name, err)
		}
		list = append(list, name+":"+strconv.Itoa(all[name]))
	}
	env := []string{Var + "=" + strings.Join(list, ",")}
	if s.notify != "" {
		env = append(env, "NOTIFY_SOCKET="+s.notify)
	}
	return env, nil
}
