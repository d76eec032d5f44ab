package container

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/claudefs/claudefs/internal/identity"
)

// factsOf puts together what a runtime says of a container and of its image.
func factsOf(c *container.InspectResponse, img *imageFacts, engine string) *identity.Facts {
	f := &identity.Facts{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Image: c.Config.Image, ImageID: c.Image,
		Digests: digests(img.digests), Runtime: engine, User: c.Config.User, Started: started(c.State.StartedAt),
		Labels:  operatorLabels(c.Config.Labels, img.labels),
		InitPID: uint32(max(c.State.Pid, 0)), Powers: powers(c),
	}
	// Runtimes write the image's user into the container when it is made. One that does not means it all the same.
	if f.User == "" {
		f.User = img.user
	}
	for _, m := range c.Mounts {
		f.Mounts = append(f.Mounts, identity.Mount{Type: string(m.Type), Source: m.Source, Destination: m.Destination})
	}
	return f
}

// operatorLabels takes away what the image brings, which runtimes merge into the container's labels. A label that the
// operator set to the very value of the image's is taken for the image's: nobody can tell them apart.
func operatorLabels(all, image map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if img, ok := image[k]; !ok || img != v {
			out[k] = v
		}
	}
	return out
}

var digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// digests takes the digests out of "name@sha256:…", sorted and each once. The names are left out: whoever may push
// somewhere can put the same content under any name.
func digests(references []string) []string {
	var out []string
	for _, r := range references {
		if _, d, ok := strings.Cut(r, "@"); ok && digest.MatchString(d) {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// started is zero for a container that never ran, for which runtimes write the year 1, and for what is no time.
func started(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// strongCaps are capabilities with which a process can enter other containers or change the kernel.
var strongCaps = []string{"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO"}

// Whoever reaches a runtime's socket can start a container that is anything.
var (
	runtimeSockets = []string{"docker.sock", "podman.sock", "containerd.sock", "crio.sock"}
	socketDirs     = []string{"/", "/run", "/var/run", "/run/containerd", "/run/podman", "/run/crio"}
)

func powers(c *container.InspectResponse) []string {
	var out []string
	if c.HostConfig.Privileged {
		out = append(out, "privileged")
	}
	for _, k := range c.HostConfig.CapAdd {
		if k = strings.TrimPrefix(strings.ToUpper(k), "CAP_"); slices.Contains(strongCaps, k) {
			out = append(out, k)
		}
	}
	if c.HostConfig.PidMode.IsHost() {
		out = append(out, "host pid")
	}
	if c.HostConfig.PidMode.IsContainer() {
		out = append(out, "pid namespace of another container")
	}
	for _, m := range c.Mounts {
		if slices.Contains(runtimeSockets, path.Base(m.Source)) || slices.Contains(socketDirs, m.Source) {
			out = append(out, "mount of "+m.Source)
		}
	}
	return out
}
