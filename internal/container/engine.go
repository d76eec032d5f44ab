package container

import (
	"context"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types"
)

// Values of identity.Facts.Runtime.
const (
	engineDocker = "docker"
	enginePodman = "podman"
)

// engineName says what serves the socket. It is asked once per event stream: while that is up, the same process
// answers, and after its end another program may.
func (d *Docker) engineName(ctx context.Context) (string, error) {
	d.mu.Lock()
	name := d.engine
	d.mu.Unlock()
	if name != "" {
		return name, nil
	}
	v, err := d.api.ServerVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("ask version of runtime %s: %w", d.host, err)
	}
	if name = engineOf(&v); name == "" {
		// Fail closed: a rule that refuses a runtime by name must not miss it.
		return "", fmt.Errorf("ask version of runtime %s: it says neither that it is Docker nor Podman", d.host)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engine = name
	return name, nil
}

func (d *Docker) forgetEngine() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engine = ""
}

// engineOf returns "" when it cannot tell. Podman lists a component "Engine" too, for the clients that ask for Docker's.
// Docker before 18.06 has no components, and Podman, which served this API later, always has.
func engineOf(v *types.Version) string {
	has := func(component string) bool {
		return slices.ContainsFunc(v.Components, func(c types.ComponentVersion) bool { return c.Name == component })
	}
	switch {
	case has("Podman Engine"):
		return enginePodman
	case has("Engine"), len(v.Components) == 0 && v.Version != "":
		return engineDocker
	}
	return ""
}
