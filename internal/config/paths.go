package config

import (
	"fmt"
	"path/filepath"

	"github.com/adrg/xdg"
)

// SystemPaths are root's.
func SystemPaths() Paths {
	p := Paths{
		Config: "/etc/claudefs/config.yaml", State: "/var/lib/claudefs", Runtime: "/run/claudefs",
		Audit: "/var/log/claudefs/audit.jsonl", Settings: "/etc/claudefs/settings.json",
	}
	return p.withRuntimes("/var/run/docker.sock", "/run/podman/podman.sock")
}

// UserPaths are those of an ordinary user.
func UserPaths(uid int) Paths {
	p := Paths{
		Config:  filepath.Join(xdg.ConfigHome, "claudefs", "config.yaml"),
		State:   filepath.Join(xdg.DataHome, "claudefs"),
		Runtime: filepath.Join(xdg.RuntimeDir, "claudefs"),
		Audit:   filepath.Join(xdg.StateHome, "claudefs", "audit.jsonl"),

		Settings: filepath.Join(xdg.ConfigHome, "claudefs", "settings.json"),
	}
	return p.withRuntimes(fmt.Sprintf("/run/user/%d/docker.sock", uid), fmt.Sprintf("/run/user/%d/podman/podman.sock", uid))
}

// DefaultPaths are root's for root and the user's for anybody else.
func DefaultPaths(uid int) Paths {
	if uid == 0 {
		return SystemPaths()
	}
	return UserPaths(uid)
}

func (p Paths) withRuntimes(sockets ...string) Paths {
	for _, s := range sockets {
		if isSocket(s) {
			p.Runtimes = append(p.Runtimes, "unix://"+s)
		}
	}
	return p
}
