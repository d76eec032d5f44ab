package container

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/claudefs/claudefs/internal/identity"
)

// callTimeout bounds one question to a runtime. A caller whose request waits cannot be killed, so it must be short.
const callTimeout = 2 * time.Second

// Docker is a runtime behind one API socket.
type Docker struct {
	host string
	api  *client.Client
}

// NewDocker makes a client for a socket such as unix:///var/run/docker.sock. It does not connect.
func NewDocker(host string) (*Docker, error) {
	if !strings.HasPrefix(host, "unix:///") {
		return nil, fmt.Errorf("runtime %q: want unix:///path/to/socket", host)
	}
	api, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("runtime %q: %w", host, err)
	}
	return &Docker{host: host, api: api}, nil
}

// Host is the socket's address.
func (d *Docker) Host() string { return d.host }

// Close ends idle connections.
func (d *Docker) Close() error { return d.api.Close() }

// Ping reports whether the runtime answers, and its API version.
func (d *Docker) Ping(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p, err := d.api.Ping(ctx)
	if err != nil {
		return "", fmt.Errorf("ask runtime %s: %w", d.host, err)
	}
	return p.APIVersion, nil
}

// Inspect implements identity.Runtime.
func (d *Docker) Inspect(ctx context.Context, id string) (*identity.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := d.api.ContainerInspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("inspect container: %w", identity.ErrNoContainer)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect container at %s: %w", d.host, err)
	}
	if c.ContainerJSONBase == nil || c.ID != id || c.State == nil || c.Config == nil || c.HostConfig == nil {
		// Fail closed: a container can be named like another one's id.
		return nil, fmt.Errorf("inspect container: %w", identity.ErrNoContainer)
	}
	imageLabels, err := d.imageLabels(ctx, c.Image)
	if err != nil {
		return nil, err
	}
	return factsOf(&c, imageLabels), nil
}

// imageLabels returns the labels that an image brings. Without them the operator's cannot be told apart, so an error
// is an error.
func (d *Docker) imageLabels(ctx context.Context, image string) (map[string]string, error) {
	img, err := d.api.ImageInspect(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("inspect image at %s: %w", d.host, err)
	}
	if img.Config == nil {
		return nil, nil
	}
	return img.Config.Labels, nil
}

func factsOf(c *container.InspectResponse, imageLabels map[string]string) *identity.Facts {
	f := &identity.Facts{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Image: c.Config.Image, ImageID: c.Image,
		Labels: map[string]string{}, InitPID: uint32(max(c.State.Pid, 0)), Powers: powers(c),
	}
	for k, v := range c.Config.Labels {
		if img, ok := imageLabels[k]; !ok || img != v {
			f.Labels[k] = v
		}
	}
	for _, m := range c.Mounts {
		f.Mounts = append(f.Mounts, identity.Mount{Type: string(m.Type), Source: m.Source, Destination: m.Destination})
	}
	return f
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

// Events calls changed with the id of every container that starts, dies, is renamed or removed, and ready once the
// stream is up. It returns when the stream ends.
func (d *Docker) Events(ctx context.Context, ready func(), changed func(id string)) error {
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, e := range []events.Action{events.ActionStart, events.ActionDie, events.ActionRename, events.ActionDestroy} {
		args.Add("event", string(e))
	}
	if _, err := d.Ping(ctx); err != nil {
		return err
	}
	msgs, errs := d.api.Events(ctx, events.ListOptions{Filters: args})
	ready()
	for {
		select {
		case m := <-msgs:
			changed(m.Actor.ID)
		case err := <-errs:
			return fmt.Errorf("events of runtime %s: %w", d.host, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
