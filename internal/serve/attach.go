package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
)

// ErrOtherInit: this program would negotiate other features with the kernel than the connection has. It needs a new
// mount.
var ErrOtherInit = errors.New("the mount was made with other FUSE features")

// capResend is FUSE_HAS_RESEND of the kernel's INIT: it can send requests again whose answers it never got.
const capResend = 1 << 39

// Config is what a Server needs.
type Config struct {
	// FS is the file system, with node ids and handles of its own.
	FS      fuse.RawFileSystem
	Options fuse.MountOptions
	// Device is /dev/fuse of a mounted file system; the Server owns it from then on.
	Device int
	// Ledger outlives the process. Without one there is no take-over, and go-fuse's numbers go to the kernel as they are.
	Ledger *ledger.Ledger
	// Blame is what a request is charged that was under way when the last server ended.
	Blame uint64
	// NoResend has requests that were under way answered with EINTR, as kernels before 6.9 need it.
	NoResend bool
	// Closed is told of each handle that an earlier server gave, that was not used since, and that is closed now. Its
	// node has no more open files when the ledger has none.
	Closed func(ledger.Handle, *ledger.Node)
	// Forgot is told of each node that the kernel has given back and that was not used since an earlier server.
	Forgot func(*ledger.Node)
	// Virtual tells the names in a tree's top directory whose removal or rename may take as long as a grant. Nothing that
	// has such a name is looked for in a directory, so a revival need not wait for it.
	Virtual func(name string) bool
	Log     *slog.Logger
}

// Server serves one connection.
type Server struct {
	cfg      Config
	fuse     *fuse.Server
	shim     *shim
	takeover bool
}

// Attach makes a Server for the connection behind cfg.Device. The first one speaks INIT with the kernel; a later one
// plays the saved request to go-fuse and takes its reply out, then puts the device in place of the socket. go-fuse
// knows a descriptor by its number only.
func Attach(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ledger == nil {
		return attachPlain(cfg)
	}
	request, saved := cfg.Ledger.Init()
	s := &Server{cfg: cfg, takeover: len(request) > 0}
	if !s.takeover {
		var err error
		if request, err = readInit(cfg.Device); err != nil {
			return nil, err
		}
	}
	s.shim = newShim(&cfg, s.resends(request))
	server, kernel, socket, reply, err := negotiate(s.shim, cfg.Options, request)
	if err != nil {
		return nil, err
	}
	defer unix.Close(kernel)
	s.fuse = server
	if s.takeover && !sameInit(reply, saved) {
		return nil, ErrOtherInit
	}
	if !s.takeover {
		if err := cfg.Ledger.SetInit(request, reply); err != nil {
			return nil, err
		}
		if _, err := unix.Write(cfg.Device, reply); err != nil {
			return nil, fmt.Errorf("answer INIT: %w", err)
		}
	}
	if err := unix.Dup3(cfg.Device, socket, unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("attach FUSE device: %w", err)
	}
	return s, nil
}

// attachPlain has go-fuse serve the connection for as long as the process lives.
func attachPlain(cfg Config) (*Server, error) {
	server, err := fuse.NewServer(cfg.FS, fmt.Sprintf("/dev/fd/%d", cfg.Device), &cfg.Options)
	if err != nil {
		return nil, fmt.Errorf("attach FUSE device: %w", err)
	}
	return &Server{cfg: cfg, fuse: server}, nil
}

// readInit reads the kernel's first request.
func readInit(device int) ([]byte, error) {
	buf := make([]byte, 1<<20)
	n, err := unix.Read(device, buf)
	if err != nil {
		return nil, fmt.Errorf("read INIT: %w", err)
	}
	return buf[:n], nil
}

// negotiate has go-fuse answer an INIT request over a socket pair. It returns the server, the end of the pair that
// stands for the kernel, the number of the descriptor that the server reads from, and its reply.
func negotiate(fs fuse.RawFileSystem, opts fuse.MountOptions, request []byte) (s *fuse.Server, kernel, socket int, reply []byte, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, -1, nil, fmt.Errorf("negotiate: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(pair[0])
		}
	}()
	if _, err := unix.Write(pair[0], request); err != nil {
		return nil, -1, -1, nil, fmt.Errorf("negotiate: %w", err)
	}
	s, err = fuse.NewServer(fs, fmt.Sprintf("/dev/fd/%d", pair[1]), &opts)
	if err != nil {
		return nil, -1, -1, nil, fmt.Errorf("negotiate: %w", err)
	}
	reply = make([]byte, 4096)
	n, err := unix.Read(pair[0], reply)
	if err != nil {
		return nil, -1, -1, nil, fmt.Errorf("negotiate: %w", err)
	}
	return s, pair[0], pair[1], reply[:n], nil
}

// sameInit compares two replies to one request; they differ in nothing but what this program negotiates.
func sameInit(a, b []byte) bool { return bytes.Equal(a, b) }

// resends reports whether the kernel can send requests again.
func (s *Server) resends(init []byte) bool {
	const flags, flags2 = 40 + 12, 40 + 16 // behind the header: major, minor, max_readahead, flags, flags2
	if s.cfg.NoResend || len(init) < flags2+4 {
		return false
	}
	low, high := binary.LittleEndian.Uint32(init[flags:]), binary.LittleEndian.Uint32(init[flags2:])
	return (uint64(high)<<32|uint64(low))&capResend != 0
}

// TookOver reports whether another server served the connection before.
func (s *Server) TookOver() bool { return s.takeover }

// Serve answers requests until the mount is gone.
func (s *Server) Serve() {
	if s.cfg.Ledger != nil {
		s.cfg.Ledger.Begin()
	}
	if s.takeover {
		s.recall()
	}
	s.fuse.Serve()
}

// recall asks for what the last server had read and not answered.
func (s *Server) recall() {
	if !s.shim.resends {
		s.shim.interruptLost(s.cfg.Device)
		return
	}
	const notifyResend = 7 // FUSE_NOTIFY_RESEND
	message := make([]byte, 16)
	binary.LittleEndian.PutUint32(message, 16)
	binary.LittleEndian.PutUint32(message[4:], notifyResend)
	if _, err := unix.Write(s.cfg.Device, message); err != nil {
		s.cfg.Log.Error("Kernel does not send lost requests again", "err", err)
	}
}

// Pause lets no further request begin and waits until none is under way, or until done ends. What was read meanwhile
// stays unanswered, for the next server.
func (s *Server) Pause(done <-chan struct{}) {
	if s.shim != nil {
		s.shim.pace.pause(done)
	}
}

// Resume ends a pause when the hand-over failed.
func (s *Server) Resume() {
	if s.shim != nil {
		s.shim.pace.resume()
	}
}

// Stuck reports whether a request has been under way since the last but one call: the watchdog's question.
func (s *Server) Stuck() bool { return s.shim != nil && s.shim.pace.stuck() }
