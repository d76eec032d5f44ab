package keeper

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// A server that cannot be watched must not serve on beside the next one.
func TestUnwatchedServer(t *testing.T) {
	child := exec.Command("sleep", "20")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	if _, err := newServer(-1, child, pair[0]); err == nil {
		t.Error("process -1 is watched")
	}
	if child.ProcessState == nil {
		t.Error("it goes on")
		_ = child.Process.Kill()
	}
}

// A program whose descriptor was lost on the way takes no other's place.
func TestProgramWithoutDescriptor(t *testing.T) {
	k := &Keeper{cfg: Config{Log: slog.New(slog.DiscardHandler), Exe: os.Stdout}, held: holder{fdstore.Exe: os.Stdin}}
	k.renew(-1)
	if k.program() != os.Stdin || k.previous != nil {
		t.Errorf("program %v, the one before %v", k.program(), k.previous)
	}
}
