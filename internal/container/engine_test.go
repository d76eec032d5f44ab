package container_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/claudefs/claudefs/internal/identity"
)

func (f *fakeDocker) setVersion(v object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version = v
}

func TestRuntimeIsToldByItsVersion(t *testing.T) {
	for _, c := range []struct {
		name    string
		version object
		want    string // empty: an error
	}{
		{"Docker", object{"Version": "28.5.2", "Components": []object{{"Name": "Engine"}, {"Name": "containerd"}, {"Name": "runc"}}}, "docker"},
		{"Docker before components", object{"Version": "17.12.1", "ApiVersion": "1.35"}, "docker"},
		{"Podman, which lists Docker's name too", object{"Version": "4.3.1", "Components": []object{{"Name": "Podman Engine"}, {"Name": "Conmon"}, {"Name": "Engine"}}}, "podman"},
		{"another program", object{"Version": "1", "Components": []object{{"Name": "Nonsense"}}}, ""},
		{"an empty answer", object{}, ""},
		{"no answer", nil, ""},
	} {
		f := newFakeDocker(t)
		f.put(idA, running(idA, "x"))
		f.setVersion(c.version)
		got, err := docker(t, f.host).Inspect(context.Background(), idA)
		switch {
		case c.want == "":
			if err == nil || errors.Is(err, identity.ErrNoContainer) {
				t.Errorf("%s: got %+v, %v, want an error", c.name, got, err)
			}
		case err != nil || got.Runtime != c.want:
			t.Errorf("%s: got %+v, %v, want %s", c.name, got, err, c.want)
		}
	}
}

// The version is asked once, and again when another program may serve the socket.
func TestRuntimeIsAskedOncePerStream(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "x"))
	c, streams := cached(t, f)
	warm(t, c, f)
	f.put(idB, running(idB, "y"))
	if got, err := c.Inspect(context.Background(), idB); err != nil || got.Runtime != "docker" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got := f.versions.Load(); got != 1 {
		t.Errorf("%d questions for the version, want 1", got)
	}
	f.setVersion(object{"Version": "5", "Components": []object{{"Name": "Podman Engine"}}})
	close(streams[0])
	<-f.streams
	warm(t, c, f)
	if got, err := c.Inspect(context.Background(), idA); err != nil || got.Runtime != "podman" {
		t.Errorf("after another program took the socket: got %+v, %v", got, err)
	}
}

func TestUserAndStart(t *testing.T) {
	for _, c := range []struct {
		name          string
		user, started any
		want          string
		zero          bool
	}{
		{"the operator's", "7", "2026-11-26T01:46:44Z", "7", false},
		{"root by the operator's word, against the image's", "0", "2026-11-26T01:46:44Z", "0", false},
		{"the image's", "", "2026-11-26T01:46:44Z", "node", false},
		{"never started", "7", "0001-01-01T00:00:00Z", "7", true},
		{"no time", "7", "yesterday", "7", true},
		{"nothing", "7", nil, "7", true},
	} {
		f := newFakeDocker(t)
		o := running(idA, "x")
		o["Config"].(object)["User"], o["State"].(object)["StartedAt"] = c.user, c.started
		f.put(idA, o)
		got, err := docker(t, f.host).Inspect(context.Background(), idA)
		if err != nil || got.User != c.want || got.Started.IsZero() != c.zero {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}

func TestPrivileged(t *testing.T) {
	f := newFakeDocker(t)
	for _, want := range []bool{true, false} {
		o := running(idA, "x")
		o["HostConfig"] = object{"Privileged": want, "CapAdd": []string{"SYS_ADMIN"}}
		f.put(idA, o)
		if got, err := docker(t, f.host).Inspect(context.Background(), idA); err != nil || slices.Contains(got.Powers, "privileged") != want {
			t.Errorf("got %+v, %v, want %v", got, err, want)
		}
	}
}
