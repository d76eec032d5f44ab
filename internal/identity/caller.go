package identity

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/claudefs/claudefs/internal/sentinel"
)

// Caller is what the kernel says of a request.
type Caller struct {
	// TID is a thread id in the pid namespace of the process that mounted; 0 when the caller is outside of it.
	TID uint32
	// UID and GID are the file system ids of the thread, as the host sees them.
	UID, GID uint32
}

// Subject is the attested caller, without what a container runtime knows of it.
type Subject struct {
	Caller Caller
	// Process is the caller's thread group: PID is what people know as its pid, where Caller.TID is one of its threads.
	Process
	// Host is a process in no container.
	Host bool
	// Container is the container's id: 64 hex digits, or "pidns-<inode>" for a namespace without a runtime.
	Container string
	// Runtime is what the cgroup path says: docker, libpod, crio, containerd, …, "" when it does not, or "namespace".
	Runtime string
	// Pod is the uid of the Kubernetes pod that the container is in, as its cgroup path says, with dashes; "" outside of
	// Kubernetes. Like Container it is confirmed only as far as ConfirmInit confirms the cgroup.
	Pod string
	// PidNamespace is the inode of the caller's pid namespace.
	PidNamespace uint64
	// Cgroups are the caller's cgroup paths by hierarchy, "" for cgroup v2.
	Cgroups map[string]string
	// Roots are the trees of our mount that a container's mount namespace holds, by mount root; "/" is the whole mount. A
	// host process's are not looked at, since they give it no right: it holds nothing.
	Roots []string
	// HostRoot: the caller's root directory is still the host's, as while a container is being set up.
	HostRoot bool
	// Exe is the path of the caller's program as the host resolves it, for records only.
	Exe string
	// Program returns Exe of a host process that has the host's own mount table, so that the path is that of the host's
	// file; else "". It is nil for containers. It asks the kernel when it is called first, which must be while the caller's
	// request waits: most policies do not ask.
	Program func() string `json:"-"`

	cgroupText string // what Cgroups was read from
	first      uint32 // the container's first process that Resolve confirmed; 0 for none
}

// ErrDenied is wrapped by every refusal on kernel facts; it wraps fs.ErrPermission.
var ErrDenied = sentinel.New("identity", iofs.ErrPermission)

// Refusals. Each is the true reason that goes into the audit log.
var (
	ErrNoCaller   = fmt.Errorf("%w: caller is outside of the daemon's pid namespace", ErrDenied)
	ErrCgroup     = fmt.Errorf("%w: cgroup hierarchies name different containers", ErrDenied)
	ErrPod        = fmt.Errorf("%w: cgroup hierarchies name different pods", ErrDenied)
	ErrForged     = fmt.Errorf("%w: cgroup names a container whose first process is in another pid namespace", ErrDenied)
	ErrMixed      = fmt.Errorf("%w: container's cgroup holds processes of unrelated pid namespaces", ErrDenied)
	ErrEnded      = fmt.Errorf("%w: caller ended before it was attested", ErrDenied)
	ErrChanged    = fmt.Errorf("%w: caller's thread id came to mean another process while it was attested", ErrDenied)
	ErrNotMounted = fmt.Errorf("%w: the caller's mount table does not hold this tree", ErrDenied)
	ErrWholeMount = fmt.Errorf("%w: the caller's mount table holds the whole mount, not this tree", ErrDenied)
)

var errBadProc = errors.New("unexpected text in /proc")
