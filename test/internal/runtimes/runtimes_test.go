//go:build e2e

// Package runtimes asks real runtimes what internal/container makes of their
// answers. It fails where one is missing: these are the only tests of what
// Podman says.
package runtimes

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

const image = "runtimes:1"

// runtime is a real one, with the image.
type runtime struct {
	*dockertest.Daemon
	name    string
	inspect func(t testing.TB, args ...string) string // its own program's inspect
}

func start(t *testing.T, name string) *runtime {
	t.Helper()
	unavailable, start := dockertest.Unavailable, dockertest.New
	if name == "podman" {
		unavailable, start = dockertest.UnavailablePodman, dockertest.NewPodman
	}
	if err := unavailable(); err != nil {
		t.Fatal(err) // not skipped, whatever the machine
	}
	r := &runtime{Daemon: start(t, dockertest.Config{}), name: name}
	if r.inspect = r.Run; name == "podman" {
		r.inspect = r.Podman
	}
	labels := map[string]string{"team": "image's", "from.image": "x"}
	if err := r.BuildImage(t.Context(), dockertest.Image{Name: image, Labels: labels}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *runtime) container(t *testing.T, cfg dockertest.RunConfig) *dockertest.Container {
	t.Helper()
	cfg.Image = image
	return r.RunContainer(t, cfg)
}

// follow makes a cache over the runtimes that follows their events until the
// test ends.
func follow(t *testing.T, runtimes ...*runtime) *container.Cache {
	t.Helper()
	var ds []*container.Docker
	for _, r := range runtimes {
		d, err := container.NewDocker(r.Socket())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		ds = append(ds, d)
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
	return c
}

// eventually polls until ok. Its limit is far below the age at which a kept
// answer is thrown away without any event.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("not so within 10 s:", what)
}

// warm asks until the answer is a kept one: the same facts, not equal ones.
func warm(t *testing.T, c *container.Cache, id string) *identity.Facts {
	t.Helper()
	var last *identity.Facts
	eventually(t, "the answer is kept", func() bool {
		before := last
		f, err := c.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		last = f
		return before == last
	})
	return last
}

func each(t *testing.T, test func(t *testing.T, r *runtime)) {
	for _, name := range []string{"docker", "podman"} {
		t.Run(name, func(t *testing.T) { test(t, start(t, name)) })
	}
}

func TestInspect(t *testing.T) {
	each(t, func(t *testing.T, r *runtime) {
		dir := t.TempDir()
		before := time.Now().Add(-time.Second)
		b := r.container(t, dockertest.RunConfig{
			Name: "web", User: "1000:1000", Volumes: []string{dir + ":/data"},
			Labels: map[string]string{"team": "operator's", "own": "o"},
		})
		f := warm(t, follow(t, r), b.ID)
		if f.Started.Before(before) || f.Started.After(time.Now()) {
			t.Errorf("started %v", f.Started)
		}
		if !strings.HasSuffix(f.Image, image) || !strings.HasPrefix(f.ImageID, "sha256:") || len(f.ImageID) != len("sha256:")+64 {
			t.Errorf("image %q, id %q", f.Image, f.ImageID)
		}
		// Docker knows digests of what a registry sent, Podman of all it has.
		if r.name == "podman" && len(f.Digests) != 1 {
			t.Errorf("digests %q", f.Digests)
		}
		want := &identity.Facts{
			ID: b.ID, Name: "web", Image: f.Image, ImageID: f.ImageID, Digests: f.Digests, Runtime: r.name, User: "1000:1000",
			Started: f.Started, Labels: map[string]string{"team": "operator's", "own": "o"}, InitPID: uint32(b.Pid()),
			Mounts: []identity.Mount{{Type: "bind", Source: dir, Destination: "/data"}},
			Peer:   new(uint32), // root serves the socket
		}
		if diff := cmp.Diff(want, f); diff != "" {
			t.Error(diff)
		}

		// What its own program prints, saved, says the same.
		saved, err := container.FromInspect(
			[]byte(r.inspect(t, "inspect", b.ID)), []byte(r.inspect(t, "image", "inspect", image)))
		if err != nil {
			t.Fatal(err)
		}
		want.Peer = nil // nobody served it
		if diff := cmp.Diff(want, saved.Facts); diff != "" || saved.LabelsUnproven {
			t.Errorf("from the saved output, labels unproven %v: %s", saved.LabelsUnproven, diff)
		}
	})
}

// TestPowers does without --privileged, which cannot start on machines that
// withhold a capability.
func TestPowers(t *testing.T) {
	each(t, func(t *testing.T, r *runtime) {
		c := follow(t, r)
		for _, test := range []struct {
			cfg  dockertest.RunConfig
			want string
		}{
			{dockertest.RunConfig{CapAdd: []string{"SYS_PTRACE"}}, "SYS_PTRACE"},
			{dockertest.RunConfig{Args: []string{"--pid=host"}}, "host pid"},
			{dockertest.RunConfig{Volumes: []string{"/run:/host"}}, "mount of /run"},
			{dockertest.RunConfig{CapAdd: []string{"NET_ADMIN"}}, ""},
		} {
			b := r.container(t, test.cfg)
			f, err := c.Inspect(t.Context(), b.ID)
			if err != nil {
				t.Fatal(err)
			}
			saved, err := container.FromInspect([]byte(r.inspect(t, "inspect", b.ID)), nil)
			if err != nil {
				t.Fatal(err)
			}
			for from, got := range map[string][]string{"the socket": f.Powers, "the saved output": saved.Facts.Powers} {
				if test.want == "" && len(got) > 0 || test.want != "" && !slices.Equal(got, []string{test.want}) {
					t.Errorf("from %s: got %q, want %q", from, got, test.want)
				}
			}
		}
	})
}

func TestListAndFind(t *testing.T) {
	each(t, func(t *testing.T, r *runtime) {
		web, db := r.container(t, dockertest.RunConfig{Name: "web"}), r.container(t, dockertest.RunConfig{Name: "db"})
		c := follow(t, r)
		got, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]string{}
		for _, s := range got {
			if names[s.Name] = s.ID; !s.Running || s.Runtime != r.name || s.Host != r.Socket() || !strings.HasSuffix(s.Image, image) || !strings.HasPrefix(s.ImageID, "sha256:") {
				t.Errorf("list has %+v", s)
			}
		}
		if diff := cmp.Diff(map[string]string{"web": web.ID, "db": db.ID}, names); diff != "" {
			t.Error(diff)
		}
		for _, ask := range []string{"db", db.ID, db.ID[:12]} {
			if f, err := c.Find(t.Context(), ask); err != nil || f.ID != db.ID {
				t.Errorf("find %s: got %+v, %v", ask, f, err)
			}
		}
		if _, err := c.Find(t.Context(), "nobody"); !errors.Is(err, identity.ErrNoContainer) {
			t.Errorf("find nobody: got %v", err)
		}
		r.Run(t, "stop", "--time=1", db.ID)
		eventually(t, "list after a stop", func() bool {
			got, err := c.List(t.Context())
			return err == nil && len(got) == 1 && got[0].ID == web.ID
		})
		// What is kept of it goes with the event, a moment after the command has ended.
		eventually(t, "found stopped", func() bool {
			f, err := c.Find(t.Context(), "db")
			return err == nil && f.ID == db.ID && f.InitPID == 0
		})
	})
}

// TestEvents changes a container whose facts are kept, once for each event.
func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, r *runtime) {
		b := r.container(t, dockertest.RunConfig{Name: "old"})
		c := follow(t, r)
		seen := func(what string, ok func(f *identity.Facts, err error) bool) {
			t.Helper()
			eventually(t, what, func() bool { return ok(c.Inspect(t.Context(), b.ID)) })
		}

		first := warm(t, c, b.ID)
		r.Run(t, "rename", b.ID, "new")
		seen("renamed", func(f *identity.Facts, err error) bool { return err == nil && f.Name == "new" })

		warm(t, c, b.ID)
		r.Run(t, "stop", "--time=1", b.ID)
		seen("stopped", func(f *identity.Facts, err error) bool { return err == nil && f.InitPID == 0 })

		r.Run(t, "start", b.ID)
		seen("started", func(f *identity.Facts, err error) bool {
			return err == nil && f.InitPID != 0 && f.InitPID != first.InitPID && f.Started.After(first.Started)
		})

		warm(t, c, b.ID)
		r.Run(t, "rm", "--force", b.ID)
		seen("removed", func(_ *identity.Facts, err error) bool { return errors.Is(err, identity.ErrNoContainer) })
	})
}

// TestBothAtOnce has one runtime go away while the other is asked.
func TestBothAtOnce(t *testing.T) {
	docker, podman := start(t, "docker"), start(t, "podman")
	inDocker := docker.container(t, dockertest.RunConfig{Name: "same"})
	inPodman := podman.container(t, dockertest.RunConfig{Name: "same"})
	c := follow(t, docker, podman)
	if _, err := c.Find(t.Context(), "same"); !errors.Is(err, container.ErrAmbiguous) {
		t.Errorf("a name in both: got %v", err)
	}
	for _, b := range []*dockertest.Container{inDocker, inPodman} {
		if f := warm(t, c, b.ID); f.ID != b.ID {
			t.Errorf("got %+v", f)
		}
	}
	if err := podman.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Its container lives on, and nobody knows what it is.
	eventually(t, "what was kept of it is forgotten", func() bool {
		_, err := c.Inspect(t.Context(), inPodman.ID)
		return err != nil && !errors.Is(err, identity.ErrNoContainer)
	})
	if f, err := c.Inspect(t.Context(), inDocker.ID); err != nil || f.Runtime != "docker" {
		t.Errorf("the other one's container: got %+v, %v", f, err)
	}
	if f, err := c.Find(t.Context(), "same"); err != nil || f.ID != inDocker.ID {
		t.Errorf("the other one's container by name: got %+v, %v", f, err)
	}
	if err := podman.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := warm(t, c, inPodman.ID); f.Runtime != "podman" {
		t.Errorf("back again: got %+v", f)
	}
}
