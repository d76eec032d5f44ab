package identity

import (
	"context"
	"errors"
	"time"
)

// ErrNoContainer: the runtime knows no container of that id.
var ErrNoContainer = errors.New("runtime knows no such container")

// Facts are what a container runtime says of a container.
type Facts struct {
	ID    string
	Name  string // without the leading slash
	Image string // the reference as the operator wrote it
	// ImageID is the image's content digest, "sha256:…": a tag can be moved, this cannot.
	ImageID string
	// Digests are those of the image in registries, "sha256:…", as far as the runtime knows them.
	Digests []string
	// Runtime is "docker" or "podman".
	Runtime string
	// User is what the operator, or else the image, has the first process run as: "1000", "node:node"; empty for root.
	User string
	// Started is when the container was last started; zero when the runtime does not say.
	Started time.Time
	// Labels are those that the operator set: labels that come with the image are left out, since whoever builds an
	// image chooses them.
	Labels map[string]string
	// InitPID is the container's first process, in our pid namespace.
	InitPID uint32
	// Powers lists what lets the container become any other one: "privileged", "SYS_ADMIN", "host pid", …
	Powers []string
	Mounts []Mount
	// Peer is the uid that serves the runtime's socket, as the kernel says; nil when that is not known, and then the
	// runtime's word counts for nothing.
	Peer *uint32
}

// Mount is one declared mount of a container.
type Mount struct {
	Type, Source, Destination string
}

// Labels with a meaning of their own.
const (
	LabelComposeProject = "com.docker.compose.project"
	LabelComposeService = "com.docker.compose.service"
	LabelProject        = "dev.claudefs.project"
	// What the kubelet has runtimes label containers with.
	LabelPod       = "io.kubernetes.pod.name"
	LabelNamespace = "io.kubernetes.pod.namespace"
)

// Project is the container's project: its compose project, or what the operator's own label says.
func (f *Facts) Project() string {
	if p := f.Labels[LabelProject]; p != "" {
		return p
	}
	return f.Labels[LabelComposeProject]
}

// Start is when the container was last started, or an error that it is not known.
func (f *Facts) Start() (time.Time, error) {
	if f.Started.IsZero() {
		return f.Started, errors.New("the runtime does not say")
	}
	return f.Started, nil
}

// Runtime is what knows containers by id.
type Runtime interface {
	// Inspect returns ErrNoContainer for an id that it does not know. It must not be called while a LOOKUP or GETATTR
	// waits for its answer: a runtime that starts a container resolves our paths under that container's lock.
	Inspect(ctx context.Context, id string) (*Facts, error)
	// Having finds the running container in whose facts first finds the first process that is looked for, or returns
	// ErrNoContainer. As Inspect, it must not be called while a runtime waits for us.
	Having(ctx context.Context, first func(*Facts) (Process, error)) (*Facts, error)
	// Forget has the next Inspect of an id ask anew: what is remembered of it contradicts the kernel.
	Forget(id string)
}
