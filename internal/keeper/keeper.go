package keeper

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// Config is what a keeper needs.
type Config struct {
	// Args is the server's command line without the program's name.
	Args []string
	// Env is the server's environment.
	Env []string
	// Exe is the program, opened for reading; the keeper runs this file whatever lies at its path later.
	Exe *os.File
	// Adopt is a running server to begin with; nil starts one.
	Adopt *Adopted
	// Ready is called when a server says for the first time that the mount answers.
	Ready func()
	// Stdin, Stdout and Stderr are the server's.
	Stdin, Stdout, Stderr *os.File
	// Grace is how long requests wait for a server before they are answered with EIO; 0 means 5 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Adopted is a server that lost its keeper.
type Adopted struct {
	PID    int
	Socket int            // the keeper's end of its socket
	Held   map[string]int // what it keeps
}

// Keeper holds one mount.
type Keeper struct {
	cfg    Config
	held   holder
	status Status
	fallen time.Time

	refusal  *refusal // answers requests while no server does
	recalled bool     // it was sent what servers had read that have died since
	gaveUp   bool     // it cannot answer; the mount was aborted

	sealedFor time.Duration // how long sealed memory waits for a server; 0: for ever

	previous *os.File  // the program before the last hand-over, until the new one has proved itself
	since    time.Time // of the last hand-over
	failures int
	stopping bool // the server is to end as soon as it can do so in order
}

// startTimeout is how long a server may take to take a mount over.
const startTimeout = 2 * time.Minute

// proven is how long a program has to serve until the one before it is forgotten.
const proven = time.Minute

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Keeper, error) {
	if cfg.Exe == nil {
		return nil, errors.New("make keeper: no program")
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{cfg: cfg, held: holder{}, status: Status{State: Starting, PID: os.Getpid(), Start: startTime(os.Getpid()), Since: time.Now()}}
	return k, nil
}

// Run keeps the mount until the server ends as it was asked to, and returns its exit code. When ctx ends the server is
// asked to stop; reload has it take over from itself.
func (k *Keeper) Run(ctx context.Context, reload <-chan os.Signal) (code int, err error) {
	defer k.held.close()
	defer k.unwrite()
	defer k.stopRefusing()
	if err := harden(); err != nil {
		return 1, err
	}
	end := fdstore.EndOther
	for try := 0; ; try++ {
		s, err := k.begin(end)
		if err != nil {
			if k.held[fdstore.Device] == nil {
				return 1, err // there is nothing to hold
			}
			k.cfg.Log.Error("Server cannot be started", "err", err)
			s = nil
		}
		e := ending{reason: "it could not be started"}
		if s != nil {
			e = k.attend(ctx, s, reload)
		}
		if e.asked || e.neverServed && k.status.Restarts == 0 && k.cfg.Adopt == nil {
			return e.code, nil
		}
		if k.unmounted() {
			k.cfg.Log.Info("Mount is gone; keeper ends")
			return e.code, nil
		}
		if ctx.Err() != nil && try > 3 {
			return 1, errors.New("server did not stop in order")
		}
		end = e.kind()
		k.note(e)
		if !k.pause(ctx, e) {
			continue // asked to stop: a server has to unmount
		}
	}
}

// begin adopts or starts a server.
func (k *Keeper) begin(end string) (*server, error) {
	if k.cfg.Adopt != nil && k.status.Restarts == 0 && k.status.Server == 0 {
		if err := k.held.adopt(k.cfg.Adopt.Held); err != nil {
			k.cfg.Log.Warn("Some descriptors are not kept; they end with the server", "err", err)
		}
		k.status.Server = k.cfg.Adopt.PID
		k.provide()
		return adopt(k.cfg.Adopt)
	}
	k.provide()
	if k.status.Server != 0 {
		k.status.Restarts++
	}
	s, err := start(&k.cfg, k.program(), k.held, end)
	if err != nil {
		return nil, err
	}
	k.status.Server = s.pid
	k.recalled, k.gaveUp = false, false
	if k.refusal == nil {
		k.write(Starting)
	}
	return s, nil
}

// provide has a list ready for what is refused, before the server starts that is to read it.
func (k *Keeper) provide() {
	if k.held[fdstore.Refusals] != nil {
		return
	}
	f, err := fdstore.NewRefusals()
	if err != nil {
		k.cfg.Log.Warn("Nodes and handles that are closed while no server runs are not forgotten", "err", err)
		return
	}
	k.held[fdstore.Refusals] = f
}

// program is what to run: the last that served, or the one before it when a new one keeps failing.
func (k *Keeper) program() *os.File {
	if f := k.held.program(); f != nil {
		if k.previous != nil && k.failures >= 3 && time.Since(k.since) < proven {
			k.cfg.Log.Error("New program does not serve; the one before it goes on")
			return k.previous
		}
		return f
	}
	return k.cfg.Exe
}

// attend looks after a running server until it ends.
func (k *Keeper) attend(ctx context.Context, s *server, reload <-chan os.Signal) ending {
	var g errgroup.Group
	g.Go(s.receive)
	g.Go(s.await)
	defer s.close()
	defer func() { _ = g.Wait() }()
	watch := &watchdog{last: time.Now(), begun: time.Now()}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	asked := ctx.Done()
	for {
		select {
		case m, ok := <-s.messages:
			if !ok { // it has ended, and all it said was heard
				return s.ended(<-s.exited, watch)
			}
			k.hear(s, m, watch)
		case <-asked:
			asked, k.stopping = nil, true
			k.stop(s)
		case <-reload:
			s.signal(syscall.SIGHUP)
		case <-tick.C:
			k.look(s, watch)
		}
	}
}

// stop asks the server to end. One that is about to take a mount over has to do that first, or nothing would unmount.
func (k *Keeper) stop(s *server) {
	if k.stopping && (s.ready || k.held[fdstore.Device] == nil) {
		s.signal(syscall.SIGTERM)
	}
}

// look is what has to be done from time to time.
func (k *Keeper) look(s *server, watch *watchdog) {
	if !s.ready && !k.fallen.IsZero() {
		k.tire()
	}
	if s.ready && watch.overdue(k.held) || !s.ready && k.held[fdstore.Device] != nil && time.Since(watch.begun) > startTimeout {
		if watch.killed.IsZero() {
			k.cfg.Log.Error("Server does not answer; it is killed", "pid", s.pid)
		}
		watch.kill(s)
		if !watch.killed.IsZero() && time.Since(watch.killed) > dumpTime+k.cfg.Grace {
			// It does not even die: what it does hangs on something else, but nobody else must. No code of it runs again.
			k.refuse()
			k.recall()
		}
	}
}

// tire is what a mount comes to that waits for a server: after a moment its requests are refused, and in the end secrets
// are let go of.
func (k *Keeper) tire() {
	waited := time.Since(k.fallen)
	if waited > k.cfg.Grace {
		k.refuse()
	}
	if k.sealedFor > 0 && waited > k.sealedFor && k.held[fdstore.Sealed] != nil {
		k.cfg.Log.Warn("Sealed memory is let go of: no server came for it")
		k.held.drop(fdstore.Sealed)
	}
}

// pause waits before the next try; false when ctx has ended.
func (k *Keeper) pause(ctx context.Context, e ending) bool {
	if k.fallen.IsZero() {
		k.fallen = time.Now()
	}
	if e.served {
		k.failures = 0
	} else {
		k.failures++
	}
	wait := time.Duration(0)
	if k.failures > 1 {
		wait = min(50*time.Millisecond<<min(k.failures-2, 8), 10*time.Second)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	grace := time.NewTicker(50 * time.Millisecond)
	defer grace.Stop()
	for {
		k.tire()
		k.recall()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-grace.C:
		}
	}
}
