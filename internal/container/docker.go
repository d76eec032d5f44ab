package container

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/claudefs/claudefs/internal/identity"
)

// callTimeout bounds one question to a runtime. A caller whose request waits cannot be killed, so it must be short.
const callTimeout = 2 * time.Second

// Docker is a runtime behind one API socket.
type Docker struct {
	host string
	api  *client.Client
	peer *peer

	mu     sync.Mutex
	engine string // what engineName found; empty until asked
}

// NewDocker makes a client for a socket such as unix:///var/run/docker.sock. It does not connect.
func NewDocker(host string) (*Docker, error) {
	if !strings.HasPrefix(host, "unix:///") {
		return nil, fmt.Errorf("runtime %q: want unix:///path/to/socket", host)
	}
	p := &peer{}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.dial(ctx, strings.TrimPrefix(host, "unix://"))
	}
	api, err := client.NewClientWithOpts(client.WithHost(host), client.WithDialContext(dial), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("runtime %q: %w", host, err)
	}
	return &Docker{host: host, api: api, peer: p}, nil
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

// Inspect implements identity.Runtime. All the calls it takes share one limit.
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
	img, err := d.image(ctx, c.Image)
	if err != nil {
		return nil, err
	}
	engine, err := d.engineName(ctx)
	if err != nil {
		return nil, err
	}
	f := factsOf(&c, img, engine)
	f.Peer = d.peer.known()
	return f, nil
}

// imageFacts are what an image brings to the containers made from it.
type imageFacts struct {
	labels  map[string]string
	user    string
	digests []string // as the runtime gives them, "name@sha256:…"
}

// image asks for what the image brings. Without it the operator's labels cannot be told apart, so an error is an error.
//
// The answer is not kept by itself. Labels and user belong to the image's id and never change, but the digests do, with
// every pull and untagging, which are no events of a container. Kept with the container's facts, all three end with
// them: at the container's next event, or after maxAge. What that costs, half a millisecond per container and maxAge,
// is not worth a second store with rules of its own.
func (d *Docker) image(ctx context.Context, id string) (*imageFacts, error) {
	img, err := d.api.ImageInspect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("inspect image at %s: %w", d.host, err)
	}
	f := &imageFacts{digests: img.RepoDigests}
	if img.Config != nil {
		f.labels, f.user = img.Config.Labels, img.Config.User
	}
	return f, nil
}
