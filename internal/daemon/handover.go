package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/vault"
)

const (
	// ProveVar has "claudefs mount" prove that it could take over, and end.
	ProveVar = "CLAUDEFS_PROVE"

	proveTimeout = 20 * time.Second
	// pauseTimeout bounds the wait for requests under way; those that take longer come again in the next server.
	pauseTimeout = 2 * time.Second
)

// HandOver has another program, or this one anew, prove itself, and then ends Run for it: Next says what to become. The
// mount is not touched. The same program with the same arguments reads its configuration and policy again.
func (d *Daemon) HandOver(ctx context.Context, binary string) error {
	if d.carry.store.Kind() == fdstore.None {
		return control.ErrNoHandOver
	}
	if !d.handing.TryLock() {
		return errors.New("another hand-over is under way")
	}
	err := d.prove(ctx, binary)
	d.noteReload(err)
	if err != nil {
		d.handing.Unlock()
		return err
	}
	// From here on there is no way back, and no lock to give back. A grant under way ends first, while the mount still
	// answers.
	d.tokens.Drain()
	d.next.Store(&binary)
	d.stop()
	return nil
}

// followOnReload hands over to this same program on each signal. Status and the log say what came of it.
func (d *Daemon) followOnReload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.opt.Reload:
			if errors.Is(d.HandOver(ctx, "/proc/self/exe"), control.ErrNoHandOver) {
				_, _ = d.ReloadPolicy()
			}
		}
	}
}

// Next is the program that this process has to become after Run, "" for none.
func (d *Daemon) Next() string {
	if p := d.next.Load(); p != nil {
		return *p
	}
	return ""
}

// noteReload keeps what came of the last hand-over, for status.
func (d *Daemon) noteReload(err error) {
	r := &reload{at: time.Now().UTC()}
	if err != nil {
		r.err = err.Error()
		d.opt.Log.Error("Hand-over refused", logkey.Err, err)
	}
	d.reloaded.Store(r)
}

type reload struct {
	at  time.Time
	err string
}

// prove runs the program with this one's arguments and memory, as far as it goes without serving.
func (d *Daemon) prove(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, d.opt.Args...)
	var list []string
	for _, m := range []struct {
		name string
		fd   int
	}{{fdstore.Ledger, d.carry.ledger.FD()}, {fdstore.Sealed, d.carry.sealed.FD()}} {
		if m.fd < 0 {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("prove %s: %w", binary, err)
		}
		f := os.NewFile(uintptr(fd), m.name)
		defer f.Close()
		list = append(list, m.name+":"+strconv.Itoa(3+len(cmd.ExtraFiles)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	var said, complained bytes.Buffer
	cmd.Env = append(os.Environ(), ProveVar+"=1", fdstore.Var+"="+strings.Join(list, ","))
	cmd.Stdout, cmd.Stderr = &said, &complained
	err := cmd.Run()
	if err == nil && strings.HasPrefix(said.String(), Proven) {
		return nil
	}
	text := complaint(complained.String())
	if text == "" && err != nil {
		text = err.Error()
	}
	return fmt.Errorf("%w: %s: %s", control.ErrNotProven, binary, text)
}

// complaint is the error in what a program wrote.
func complaint(written string) string {
	text := strings.TrimSpace(written)
	if _, after, ok := strings.Cut(text, "claudefs: error: "); ok {
		text = after
	}
	text, _, _ = strings.Cut(text, "\nclaudefs: hint:")
	return text
}

// Proven begins what a program prints that has proved itself.
const Proven = "claudefs: proven: "

// Prove reports whether a daemon with these options could take over from the one whose memory was inherited: it knows
// the formats, opens the vault with the key that is held, and answers a request over the connection's own features.
func Prove(ctx context.Context, opt Options) error {
	d, err := New(opt)
	if err != nil {
		return err
	}
	fd, ok := opt.Store.Take(fdstore.Ledger)
	if !ok {
		return errors.New("prove: no connection state was inherited")
	}
	request, reply, err := ledger.Peek(fd)
	if err != nil {
		return err
	}
	if d.carry, err = proofCarry(opt.Store); err != nil {
		return err
	}
	if err := d.proveVault(ctx, opt.Store); err != nil {
		return err
	}
	if err := d.build(); err != nil {
		return err
	}
	return fs.Prove(d.fsConfig(), request, reply)
}

// proofCarry is private memory in place of the live one, which a proof must not write to.
func proofCarry(store *fdstore.Store) (*carry, error) {
	l, err := ledger.New()
	if err != nil {
		return nil, err
	}
	a, err := sealed.New()
	return &carry{store: store, device: -1, ledger: l, sealed: a}, err
}

// proveVault opens the vault as the next server will: with the key that is held. A locked vault stays locked.
func (d *Daemon) proveVault(ctx context.Context, store *fdstore.Store) error {
	if fd, ok := store.Take(fdstore.Sealed); ok {
		key, err := sealed.Peek(fd, sealed.KindKey, 0)
		if err != nil {
			return err
		}
		if key != nil {
			if err := (heldKey{d.carry.sealed}).Put(key); err != nil {
				return err
			}
			clear(key)
		}
	}
	cfg := d.vaultConfig()
	cfg.Passphrase = nil // nobody is asked
	var err error
	if d.vault, err = vault.Open(cfg); err != nil {
		return err
	}
	if cfg.Held.Get() == nil {
		return nil
	}
	return d.vault.Unlock(ctx)
}
