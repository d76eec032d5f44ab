package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// carry is what outlives the server.
type carry struct {
	store  *fdstore.Store
	device int // /dev/fuse of a mount that an earlier server made, -1 without one
	ledger *ledger.Ledger
	sealed *sealed.Arena
}

// inherit takes up what an earlier server left, or makes it anew. A format that this program does not know is an error:
// the connection stays as it is, for a program that knows it.
func inherit(store *fdstore.Store) (*carry, error) {
	c := &carry{store: store, device: -1}
	if fd, ok := store.Take(fdstore.Device); ok {
		if connected(fd) {
			c.device = fd
		} else {
			_ = unix.Close(fd) // unmounted, or aborted, while no server ran
		}
	}
	if store.Kind() == fdstore.None {
		var err error
		c.sealed, err = sealed.New()
		return c, err
	}
	if c.device < 0 {
		c.forget() // left by a server that was killed before it mounted, or after it unmounted
	}
	return c, errors.Join(c.openLedger(), c.openSealed())
}

// connected reports whether the connection of a FUSE device has not ended.
func connected(device int) bool {
	fds := []unix.PollFd{{Fd: int32(device), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLERR == 0
}

func (c *carry) openLedger() (err error) {
	if fd, ok := c.store.Take(fdstore.Ledger); ok {
		c.ledger, err = ledger.Open(fd)
		return err
	}
	if c.device >= 0 {
		return errors.New("take over: the mount came without its connection state")
	}
	if c.ledger, err = ledger.New(); err != nil {
		return err
	}
	return c.store.Keep(fdstore.Ledger, c.ledger.FD())
}

func (c *carry) openSealed() (err error) {
	if fd, ok := c.store.Take(fdstore.Sealed); ok {
		c.sealed, err = sealed.Open(fd)
		return err
	}
	if c.sealed, err = sealed.New(); err != nil || c.sealed.FD() < 0 {
		return err
	}
	return c.store.Keep(fdstore.Sealed, c.sealed.FD())
}

// forgetKey wipes the vault key if no server has used it for longer than timeout.
func (c *carry) forgetKey(timeout time.Duration) {
	if c.sealed.Age() > timeout {
		heldKey{c.sealed}.Drop()
	}
	c.sealed.Stamp()
}

// close lets go of the memory; what is kept stays with the holder. While a container still binds a tree its requests are
// answered to the very end, and the memory stays.
func (d *Daemon) closeCarry() error {
	if d.mounted != nil {
		select {
		case <-d.mounted.Done():
		case <-time.After(100 * time.Millisecond):
			return nil
		}
	}
	c := d.carry
	var errs []error
	if c.ledger != nil {
		errs = append(errs, c.ledger.Close())
	}
	return errors.Join(append(errs, c.sealed.Close())...)
}

// forget empties systemd's store: it keeps what it has until it is told, and would hand the next server a connection that
// has ended. The device goes first, for without it nothing is taken over. A keeper of our own ends with the mount.
func (c *carry) forget() {
	if c.store.Kind() != fdstore.Systemd {
		return
	}
	c.store.Drop(fdstore.Device)
	for _, name := range c.store.Names() {
		c.store.Drop(name)
	}
}

// device returns the device of the mount: the one of an earlier server, or that of a new mount.
func (d *Daemon) device() (int, error) {
	if d.carry.device >= 0 {
		return d.carry.device, nil
	}
	fd, err := serve.Mount(d.opt.Mountpoint, true)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", fs.ErrMountpoint, err)
	}
	// Before the first answer, so that the mount survives whatever comes next.
	return fd, d.carry.store.Keep(fdstore.Device, fd)
}

// keepControls hands the keeper the files that tell how many requests have no answer, and that abort the connection: the
// last resort when nobody can answer.
func (d *Daemon) keepControls(dev uint64) {
	if d.carry.store.Kind() != fdstore.Keeper {
		return
	}
	root, err := openFusectl()
	if err != nil {
		d.opt.Log.Debug("Keeper goes without fusectl", logkey.Err, err)
		return
	}
	defer unix.Close(root)
	connection := strconv.FormatUint(uint64(unix.Minor(dev)), 10)
	for name, flags := range map[string]int{fdstore.Waiting: unix.O_RDONLY, fdstore.Abort: unix.O_WRONLY} {
		fd, err := unix.Openat(root, connection+"/"+name, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			d.opt.Log.Debug("Keeper goes without fusectl", logkey.Err, err)
			continue
		}
		_ = d.carry.store.Keep(name, fd)
		_ = unix.Close(fd)
	}
}

// openFusectl mounts the control file system of FUSE, nowhere but in a descriptor.
func openFusectl() (root int, err error) {
	context, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open fusectl: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return -1, fmt.Errorf("open fusectl: %w", err)
	}
	root, err = unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open fusectl: %w", err)
	}
	return root, nil
}

// heldKey is the vault key in sealed memory.
type heldKey struct{ arena *sealed.Arena }

// Put implements vault.HeldKey.
func (h heldKey) Put(key []byte) error { return h.arena.Put(sealed.KindKey, 0, nil, key) }

// Get implements vault.HeldKey.
func (h heldKey) Get() []byte {
	_, key, _ := h.arena.Get(sealed.KindKey, 0)
	return key
}

// Drop implements vault.HeldKey.
func (h heldKey) Drop() { h.arena.Delete(sealed.KindKey, 0) }

// treeNotes is the broker's memory in sealed memory.
type treeNotes struct{ arena *sealed.Arena }

func notesID(tree string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(tree))
	return h.Sum64()
}

// Save implements broker.Memory.
func (n treeNotes) Save(tree string, text []byte) error {
	return n.arena.Put(sealed.KindNotes, notesID(tree), []byte(tree), text)
}

// Load implements broker.Memory.
func (n treeNotes) Load(tree string) []byte {
	meta, text, _ := n.arena.Get(sealed.KindNotes, notesID(tree))
	if string(meta) != tree {
		clear(text)
		return nil
	}
	return text
}

// Trees implements broker.Memory.
func (n treeNotes) Trees() []string {
	var out []string
	for _, id := range n.arena.IDs(sealed.KindNotes) {
		meta, text, _ := n.arena.Get(sealed.KindNotes, id)
		clear(text)
		out = append(out, string(meta))
	}
	return out
}

// beat stamps the sealed memory and tells the holder that the server lives, as long as its requests end.
func (d *Daemon) beat(ctx context.Context, m *fs.Mounted) error {
	patience := d.opt.Config.Keeper.Watchdog
	tick := time.NewTicker(patience / 4)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		d.carry.sealed.Stamp()
		d.catchUp(m)
		m.Sweep()
		sign := "WATCHDOG=1"
		if round%2 == 1 && m.Stuck() { // eras of half the patience
			d.opt.Log.Error("A request does not end")
			sign = "WATCHDOG=trigger"
		}
		_ = d.carry.store.Notify(sign)
	}
}

// catchUp does what is left of the requests that a keeper answered while no server did.
func (d *Daemon) catchUp(m *fs.Mounted) {
	for r := range d.carry.store.Refused() {
		m.Missed(serve.Missed(r))
	}
}
