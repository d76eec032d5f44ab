package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/internal/logkey"
)

// KeeperCommand is the hidden command that adopts a running server: its process id follows, then "--" and the server's
// own arguments.
const KeeperCommand = "keeper"

// replaceKeeper waits for the keeper's death and starts another one, which adopts this server, over and over. Without a
// keeper of our own there is nothing to do.
func (d *Daemon) replaceKeeper(ctx context.Context) error {
	if d.carry.store.Kind() != fdstore.Keeper {
		return nil
	}
	for {
		gone := make(chan struct{})
		go func() {
			_ = d.carry.store.WaitKeeper()
			close(gone)
		}()
		select {
		case <-ctx.Done():
			return nil
		case <-gone:
		}
		d.opt.Log.Warn("Keeper has died; another one is started")
		if err := d.startKeeper(); err != nil {
			d.opt.Log.Error("No keeper: the mount would not survive this server", logkey.Err, err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	}
}

// startKeeper runs this program as keeper, in a session of its own, with all that is kept.
func (d *Daemon) startKeeper() error {
	socket, held, err := d.carry.store.Renew()
	if err != nil {
		return err
	}
	files, list := []*os.File{os.NewFile(uintptr(socket), "server")}, []string{"server:3"}
	for name, fd := range held {
		list = append(list, name+":"+strconv.Itoa(3+len(files)))
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	args := slices.Concat([]string{KeeperCommand, strconv.Itoa(os.Getpid()), "--"}, d.opt.Args)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), fdstore.Var+"="+strings.Join(list, ","))
	cmd.Stderr, cmd.ExtraFiles = d.opt.Stderr, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(errors.New("start keeper"), err)
	}
	d.tellKeeper()
	return cmd.Process.Release()
}

// keeperFile is where a keeper writes how the mount does.
func (d *Daemon) keeperFile() string { return filepath.Join(d.opt.Config.RuntimeDir, keeper.FileName) }

// tellKeeper tells a keeper what a new one has to know.
func (d *Daemon) tellKeeper() {
	_ = d.carry.store.Notify("X_CLAUDEFS_STATE="+d.keeperFile(),
		fmt.Sprintf("WATCHDOG_USEC=%d", d.opt.Config.Keeper.Watchdog.Microseconds()),
		fmt.Sprintf("X_CLAUDEFS_SEALED_USEC=%d", d.opt.Config.Keeper.KeyTimeout.Microseconds()), "READY=1")
}
