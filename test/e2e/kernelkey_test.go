//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// dropKernelKey takes the vault's key out of the kernel keyring, where it would stay until reboot.
func (h *host) dropKernelKey() {
	b, err := os.ReadFile(filepath.Join(h.dir, "state", "vault", "vault.json"))
	var head struct {
		ID string `json:"id"`
	}
	if err != nil || json.Unmarshal(b, &head) != nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _ = unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
	if id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", "claudefs:"+head.ID, 0); err == nil {
		_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	}
}
