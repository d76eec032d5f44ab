package container_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
)

var (
	idA = strings.Repeat("a", 64)
	idB = strings.Repeat("b", 64)

	digest1 = "sha256:" + strings.Repeat("1", 64)
	digest2 = "sha256:" + strings.Repeat("2", 64)
)

type object = map[string]any

// fakeDocker serves as much of Docker's API as is used, over a unix socket.
type fakeDocker struct {
	host      string
	mu        sync.Mutex
	inspected map[string]object // by what the path says, as Docker takes names too
	images    map[string]object
	hold      chan struct{} // inspect waits for it, when there is one
	version   object        // what /version says
	inspects  atomic.Int32
	versions  atomic.Int32
	since     atomic.Value     // what the last event stream was asked for
	streams   chan chan object // each event stream that was opened; closing it ends the stream
	server    *httptest.Server
}

func newFakeDocker(t testing.TB) *fakeDocker {
	t.Helper()
	f := &fakeDocker{
		inspected: map[string]object{}, images: map[string]object{}, streams: make(chan chan object, 8),
		version: object{"Version": "28.0.0", "Components": []object{{"Name": "Engine"}, {"Name": "containerd"}}},
	}
	sock := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	m.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	m.HandleFunc("/v1.41/containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		f.inspects.Add(1)
		f.mu.Lock()
		hold, c := f.hold, f.inspected[r.PathValue("id")]
		f.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		answer(w, c)
	})
	m.HandleFunc("/v1.41/images/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		answer(w, f.images[r.PathValue("id")])
	})
	m.HandleFunc("/v1.41/version", func(w http.ResponseWriter, _ *http.Request) {
		f.versions.Add(1)
		f.mu.Lock()
		defer f.mu.Unlock()
		answer(w, f.version)
	})
	m.HandleFunc("/v1.41/containers/json", f.list)
	m.HandleFunc("/v1.41/events", f.events)
	f.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: m}}
	f.server.Start()
	t.Cleanup(func() { f.server.CloseClientConnections(); f.server.Close() })
	f.host = "unix://" + sock
	return f
}

func answer(w http.ResponseWriter, v object) {
	if v == nil {
		w.WriteHeader(http.StatusNotFound)
		v = object{"message": "No such thing"}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// list lists what inspect knows, as far as it runs or all are asked for.
func (f *fakeDocker) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hold, out := f.hold, []object{}
	for _, key := range slices.Sorted(maps.Keys(f.inspected)) {
		c := f.inspected[key]
		state := "exited"
		if c["State"].(object)["Running"] == true {
			state = "running"
		}
		if state == "running" || r.FormValue("all") == "1" {
			out = append(out, object{
				"Id": c["Id"], "Names": []any{"/other/link", c["Name"]}, "Image": c["Config"].(object)["Image"], "ImageID": c["Image"],
				"State": state, "Labels": c["Config"].(object)["Labels"], "Mounts": c["Mounts"],
			})
		}
	}
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (f *fakeDocker) events(w http.ResponseWriter, r *http.Request) {
	f.since.Store(r.FormValue("since"))
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	stream := make(chan object)
	f.streams <- stream
	for {
		select {
		case e, ok := <-stream:
			if !ok {
				return
			}
			_ = json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeDocker) put(name string, c object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inspected[name] = c
	f.images["sha256:1234"] = object{
		"Id": "sha256:1234", "Config": object{"User": "node", "Labels": object{"from.image": "x", "team": "image's", "same": "s"}},
		"RepoDigests": []string{"mirror.example:5000/nginx@" + digest2, "nginx@" + digest1, "docker.io/library/nginx@" + digest1, "nginx@sha256:short", "nginx:1"},
	}
}

func (f *fakeDocker) holdInspect(c chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = c
}

func running(id, name string) object {
	return object{
		"Id": id, "Name": "/" + name, "Image": "sha256:1234",
		"State":      object{"Pid": 42, "Running": true, "StartedAt": "2026-11-26T02:46:44.865691967+01:00"},
		"Config":     object{"Image": "nginx:1", "User": "7:8", "Labels": object{"from.image": "x", "team": "operator's", "same": "s", "own": "o"}},
		"HostConfig": object{}, "Mounts": []object{{"Type": "bind", "Source": "/run/claudefs/mnt/web", "Destination": "/root/.claude"}},
	}
}

func docker(t testing.TB, host string) *container.Docker {
	t.Helper()
	d, err := container.NewDocker(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestInspect(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "web"))
	got, err := docker(t, f.host).Inspect(context.Background(), idA)
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Geteuid())
	want := &identity.Facts{
		ID: idA, Name: "web", Image: "nginx:1", ImageID: "sha256:1234", InitPID: 42, Runtime: "docker", User: "7:8",
		Digests: []string{digest1, digest2}, Started: time.Date(2026, 11, 26, 1, 46, 44, 865691967, time.UTC),
		Labels: map[string]string{"team": "operator's", "own": "o"}, // not what came with the image
		Mounts: []identity.Mount{{Type: "bind", Source: "/run/claudefs/mnt/web", Destination: "/root/.claude"}}, Peer: &uid,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPowers(t *testing.T) {
	for _, c := range []struct {
		name   string
		host   object
		mounts []object
		want   []string
	}{
		{"none", object{"CapAdd": []string{"NET_ADMIN"}}, nil, nil},
		{"privileged", object{"Privileged": true}, nil, []string{"privileged"}},
		{"capabilities", object{"CapAdd": []string{"CAP_SYS_ADMIN", "sys_ptrace", "SYS_MODULE", "all"}}, nil, []string{"SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "ALL"}},
		{"host pid", object{"PidMode": "host"}, nil, []string{"host pid"}},
		{"another's pid", object{"PidMode": "container:x"}, nil, []string{"pid namespace of another container"}},
		{"socket", object{}, []object{{"Source": "/var/run/docker.sock"}}, []string{"mount of /var/run/docker.sock"}},
		{"podman's socket", object{}, []object{{"Source": "/run/podman/podman.sock"}}, []string{"mount of /run/podman/podman.sock"}},
		{"containerd's socket", object{}, []object{{"Source": "/run/containerd/containerd.sock"}}, []string{"mount of /run/containerd/containerd.sock"}},
		{"directory of the socket", object{}, []object{{"Source": "/run"}}, []string{"mount of /run"}},
		{"the host", object{}, []object{{"Source": "/"}}, []string{"mount of /"}},
		{"ordinary", object{}, []object{{"Source": "/srv/docker.sock.d"}}, nil},
	} {
		f := newFakeDocker(t)
		o := running(idA, "x")
		o["HostConfig"], o["Mounts"] = c.host, c.mounts
		f.put(idA, o)
		got, err := docker(t, f.host).Inspect(context.Background(), idA)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got.Powers); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// Not known is an answer; not answering is none.
func TestNotFoundIsNotDown(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idB, running(idA, idB)) // container A is *named* like an id
	noImage, noState := running(idA, "x"), running(idA, "x")
	noImage["Image"] = "sha256:gone"
	delete(noState, "State")
	d := docker(t, f.host)
	for _, c := range []struct {
		name    string
		c       object
		unknown bool
	}{
		{"no such container", nil, true},
		{"answer about another one", running(idB, "x"), true},
		{"answer without state", noState, true},
		{"image gone, so its labels are not known", noImage, false},
	} {
		f.put(idA, c.c)
		if got, err := d.Inspect(context.Background(), idA); err == nil || errors.Is(err, identity.ErrNoContainer) != c.unknown {
			t.Errorf("%s: got %+v %v", c.name, got, err)
		}
	}
	if got, err := d.Inspect(context.Background(), idB); !errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("a name that looks like an id: got %+v %v", got, err)
	}
	for _, host := range []string{"unix:///nonexistent/docker.sock", "unix://" + t.TempDir()} {
		if got, err := docker(t, host).Inspect(context.Background(), idA); err == nil || errors.Is(err, identity.ErrNoContainer) {
			t.Errorf("%s: got %+v %v", host, got, err)
		}
	}
}

func TestNewDockerRefuses(t *testing.T) {
	for _, host := range []string{"", "tcp://127.0.0.1:2375", "unix://relative.sock", "/var/run/docker.sock", "http://x"} {
		if _, err := container.NewDocker(host); err == nil {
			t.Errorf("%q: accepted", host)
		}
	}
}

// A runtime that accepts and says nothing must not hold a caller, who cannot be killed while it waits.
func TestSilentRuntimeIsBounded(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "x"))
	hold := make(chan struct{})
	defer close(hold)
	f.holdInspect(hold)
	start := time.Now()
	_, err := docker(t, f.host).Inspect(context.Background(), idA)
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 4*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start = time.Now()
	if _, err := docker(t, f.host).Inspect(ctx, idA); err == nil || time.Since(start) > time.Second {
		t.Errorf("the caller's own limit: got %v after %v", err, time.Since(start))
	}
}

// cached runs a cache over fakes until the test ends, and waits until their streams are up.
func cached(t testing.TB, fakes ...*fakeDocker) (*container.Cache, []chan object) {
	t.Helper()
	var ds []*container.Docker
	for _, f := range fakes {
		ds = append(ds, docker(t, f.host))
	}
	c := container.NewCache(slog.New(slog.DiscardHandler), ds...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	var streams []chan object
	for _, f := range fakes {
		streams = append(streams, <-f.streams)
	}
	return c, streams
}

func name(t testing.TB, c *container.Cache) string {
	t.Helper()
	f, err := c.Inspect(context.Background(), idA)
	if err != nil {
		t.Fatal(err)
	}
	return f.Name
}

// eventually retries until ok: an event travels through a socket.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("not so within 5 s:", what)
}

// warm asks until the answer is cached, and returns.
func warm(t testing.TB, c *container.Cache, f *fakeDocker) {
	t.Helper()
	eventually(t, "the answer is cached", func() bool {
		name(t, c)
		before := f.inspects.Load()
		name(t, c)
		return f.inspects.Load() == before
	})
}

func event(id string) object {
	return object{"Type": "container", "Action": "rename", "Actor": object{"ID": id}}
}

func TestCacheServesUntilAnEvent(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, streams := cached(t, f)
	warm(t, c, f)
	f.put(idA, running(idA, "new"))
	streams[0] <- event(idB) // another container's event leaves it alone
	if got := name(t, c); got != "old" {
		t.Errorf("got %q, want the cached answer", got)
	}
	streams[0] <- event(idA)
	eventually(t, "the event drops the entry", func() bool { return name(t, c) == "new" })
}

func TestCacheIsOffWithoutStream(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, streams := cached(t, f)
	warm(t, c, f)
	close(streams[0])
	f.put(idA, running(idA, "new"))
	eventually(t, "the stream's end drops all", func() bool { return name(t, c) == "new" })
	before := f.inspects.Load()
	name(t, c)
	name(t, c)
	if got := f.inspects.Load() - before; got != 2 {
		t.Errorf("%d of 2 questions reached the runtime", got)
	}
	// And it comes back.
	<-f.streams
	warm(t, c, f)
}

// An answer that was on its way while an event came may be from before it.
func TestCacheKeepsNoOverlappedAnswer(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, streams := cached(t, f)
	warm(t, c, f)
	streams[0] <- event(idA)
	hold := make(chan struct{})
	f.holdInspect(hold)
	before := f.inspects.Load()
	got := make(chan string, 1)
	// The entry is gone once a question reaches the runtime.
	go func() {
		for f.inspects.Load() == before {
			s, err := c.Inspect(context.Background(), idA)
			if err == nil && f.inspects.Load() > before {
				got <- s.Name
				return
			}
		}
		got <- "?"
	}()
	eventually(t, "the question is at the runtime", func() bool { return f.inspects.Load() > before })
	f.put(idA, running(idA, "new")) // the held answer still says old
	drops := c.Drops()
	streams[0] <- event(idA)
	eventually(t, "the event is handled", func() bool { return c.Drops() > drops })
	close(hold)
	if s := <-got; s != "old" {
		t.Fatalf("the held answer says %q", s)
	}
	f.holdInspect(nil)
	if s := name(t, c); s != "new" {
		t.Errorf("the overlapped answer %q was kept", s)
	}
}

// A container that is still being started has no first process: asked again each time.
func TestCacheKeepsNoStartingContainer(t *testing.T) {
	f := newFakeDocker(t)
	o := running(idA, "x")
	o["State"] = object{"Pid": 0}
	f.put(idA, o)
	c, _ := cached(t, f)
	for range 3 {
		name(t, c)
	}
	if got := f.inspects.Load(); got != 3 {
		t.Errorf("%d questions, want 3", got)
	}
}

func TestCacheOverSeveralRuntimes(t *testing.T) {
	one, two := newFakeDocker(t), newFakeDocker(t)
	two.put(idA, running(idA, "two"))
	c, _ := cached(t, one, two)
	if !c.Configured() || container.NewCache(slog.New(slog.DiscardHandler)).Configured() {
		t.Error("Configured")
	}
	if got := name(t, c); got != "two" {
		t.Errorf("got %q", got)
	}
	if _, err := c.Inspect(context.Background(), idB); !errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("known to none: got %v", err)
	}
	one.server.CloseClientConnections()
	one.server.Close()
	if _, err := c.Inspect(context.Background(), idB); err == nil || errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("one that might know is down: got %v", err)
	}
	if got := name(t, c); got != "two" {
		t.Errorf("the other still answers: got %q", got)
	}
}

// What is suspected is asked for again, but not at once, and nothing else is.
func TestCacheForgets(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, _ := cached(t, f)
	warm(t, c, f)
	f.put(idA, running(idA, "new"))
	time.Sleep(150 * time.Millisecond)
	c.Forget(idB)
	if s := name(t, c); s != "old" {
		t.Errorf("another one was forgotten: %q", s)
	}
	c.Forget(idA)
	if s := name(t, c); s != "new" {
		t.Errorf("got %q", s)
	}
	f.put(idA, running(idA, "newer"))
	c.Forget(idA)
	if s := name(t, c); s != "new" {
		t.Errorf("a fresh answer was forgotten: %q", s)
	}
}
