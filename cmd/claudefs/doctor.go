package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/guarded"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/settings"
	"github.com/claudefs/claudefs/vault"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func newDoctorCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what keeps claudefs from working, with the remedy", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := examine(cmd.Context(), e)
			if asJSON {
				if err := printJSON(e.Stdout, map[string]any{"schemaVersion": 1, "findings": findings}); err != nil {
					return err
				}
			} else {
				printFindings(e, findings)
			}
			for _, f := range findings {
				if !f.OK {
					return errors.New("doctor: something needs attention")
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printFindings(e *env, findings []finding) {
	for _, f := range findings {
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(e.Stdout, "%s  %-14s %s\n", mark, f.Check, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(e.Stdout, "      remedy: %s\n", f.Remedy)
		}
	}
}

func examine(ctx context.Context, e *env) []finding {
	out := []finding{checkDevice(), checkKernel(), checkResend(), checkSealed(), checkMounting(), checkPidNamespace()}
	c, err := e.config()
	if err != nil {
		return append(out, finding{"configuration", false, err.Error(), "correct the file, then run claudefs doctor again"})
	}
	out = append(out, finding{"configuration", true, "token endpoint " + c.OAuth.TokenURL, ""}, checkVault(c), checkBase(c))
	out = append(out, checkRuntimes(ctx, c)...)
	return append(out, checkDaemon(ctx, c)...)
}

func checkDevice() finding {
	f := finding{Check: "fuse device", Detail: "/dev/fuse can be opened"}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return finding{f.Check, false, "/dev/fuse: " + err.Error(), "modprobe fuse; in a container add --device /dev/fuse"}
	}
	_ = unix.Close(fd)
	f.OK = true
	return f
}

// checkKernel tries the one call that older kernels lack: state files are resolved with it.
func checkKernel() finding {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return finding{"kernel", false, "openat2: " + err.Error(), "use Linux 5.6 or newer, and allow openat2 in the container's seccomp profile"}
	}
	_ = unix.Close(fd)
	return finding{"kernel", true, "openat2 works", ""}
}

// checkResend tells what a crash costs: since Linux 6.9 the kernel sends again what a server had not answered.
func checkResend() finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return finding{"take-over", false, "uname: " + err.Error(), ""}
	}
	var major, minor int
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major > 6 || major == 6 && minor >= 9) {
		return finding{"take-over", true, "requests survive a crash of the daemon (Linux " + release + ")", ""}
	}
	return finding{
		"take-over", true, "Linux " + release + " is older than 6.9: the mount survives a crash of the daemon, but requests that it was " +
			"answering fail with EINTR", "",
	}
}

// checkSealed tells whether secrets survive a crash.
func checkSealed() finding {
	if err := sealed.Supported(); err != nil {
		return finding{
			"sealed memory", true, err.Error() + ": after a crash of the daemon open credentials and drafts are gone, and the vault is unlocked as at a start",
			"boot with secretmem.enable=1 (Linux 5.14 or newer); Linux 6.5 and newer need no option",
		}
	}
	return finding{"sealed memory", true, "memfd_secret works: open credentials and the vault key survive a crash", ""}
}

// checkMounting looks at what an unprivileged mount needs.
func checkMounting() finding {
	if os.Geteuid() == 0 {
		return finding{"mounting", true, "root mounts by itself", ""}
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return finding{"mounting", false, "fusermount3 is missing", "apt-get install fuse3"}
	}
	b, _ := os.ReadFile("/etc/fuse.conf")
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return finding{"mounting", true, "fusermount3, user_allow_other is set", ""}
		}
	}
	return finding{"mounting", false, "user_allow_other is not set, so containers cannot read the mount", "add the line user_allow_other to /etc/fuse.conf"}
}

func checkPidNamespace() finding {
	ours, err1 := os.Readlink("/proc/self/ns/pid")
	first, err2 := os.Readlink("/proc/1/ns/pid")
	if err1 != nil || err2 != nil || ours == first {
		return finding{"pid namespace", true, "the same as that of process 1", ""}
	}
	return finding{"pid namespace", false, "not the host's: callers cannot be told apart", "run claudefs on the host, or its container with --pid=host"}
}

func checkVault(c *config.Config) finding {
	v, err := vault.Open(vault.Config{Dir: c.VaultDir()})
	if errors.Is(err, vault.ErrNoVault) {
		return finding{"vault", true, "none yet; the first mount or import makes one (backend " + c.Vault.Backend + ")", ""}
	}
	if err != nil {
		return finding{"vault", false, err.Error(), "restore the vault directory from a backup; do not delete it"}
	}
	return finding{"vault", true, fmt.Sprintf("key in %v", v.Backends()), ""}
}

// checkBase looks at the host's base of the trees' settings. Trees are told less of what is wrong with it.
func checkBase(c *config.Config) finding {
	const check = "settings base"
	if c.Settings.Base == "" {
		return finding{check, true, "none configured", ""}
	}
	text, err := guarded.ReadFile(c.Settings.Base, settings.MaxSize+1)
	if errors.Is(err, iofs.ErrNotExist) {
		return finding{check, true, c.Settings.Base + " does not exist: trees have their own settings alone", ""}
	}
	var doc *settings.Document
	if err == nil {
		doc, err = settings.Parse(text)
	}
	if err != nil {
		return finding{check, false, c.Settings.Base + ": " + err.Error(), "correct it: trees whose rules lay their settings over it have none"}
	}
	_, removed := settings.FilterBase(doc)
	if len(removed) == 0 {
		return finding{check, true, c.Settings.Base, ""}
	}
	var keys []string
	for _, r := range removed {
		keys = append(keys, fmt.Sprintf("%s (%s)", r.Path, r.Reason))
	}
	return finding{check, true, c.Settings.Base + "; not shown to trees: " + strings.Join(keys, ", "), ""}
}

func checkRuntimes(ctx context.Context, c *config.Config) []finding {
	if len(c.Runtimes) == 0 {
		return []finding{{"runtime", true, "none configured: rules may use kernel facts only", ""}}
	}
	var out []finding
	for _, host := range c.Runtimes {
		d, err := container.NewDocker(host)
		var api string
		if err == nil {
			api, err = d.Ping(ctx)
			_ = d.Close()
		}
		if err != nil {
			out = append(out, finding{"runtime", false, err.Error(), "start it, or take it out of \"runtimes\" in the configuration"})
			continue
		}
		out = append(out, finding{"runtime", true, host + ", API " + api, ""})
	}
	return out
}

func checkDaemon(ctx context.Context, c *config.Config) []finding {
	s, err := control.Client{Socket: c.ControlSocket()}.Status(ctx)
	if errors.Is(err, control.ErrNoDaemon) {
		return []finding{{"daemon", true, "not running", ""}}
	}
	if err != nil {
		return []finding{{"daemon", false, err.Error(), "claudefs unmount, then claudefs mount"}}
	}
	out := []finding{{"daemon", true, fmt.Sprintf("process %d, mounted at %s", s.PID, s.Mountpoint), ""}}
	if s.Vault.Locked {
		out = append(out, finding{"vault", false, "locked in the daemon", "claudefs vault unlock"})
	}
	for _, a := range s.Accounts {
		if a.State == string(vault.StateDead) || a.State == string(vault.StateHold) {
			out = append(out, finding{"account", false, a.Name + ": " + a.State + ": " + a.Why, "claudefs import --account " + a.Name + " FILE, with a fresh login"})
		}
	}
	return out
}
