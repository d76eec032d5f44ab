package container_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
)

func stopped(id, name string) object {
	o := running(id, name)
	o["State"] = object{"Pid": 0, "Running": false}
	return o
}

// over makes a cache that follows no events.
func over(t *testing.T, fakes ...*fakeDocker) *container.Cache {
	t.Helper()
	var ds []*container.Docker
	for _, f := range fakes {
		ds = append(ds, docker(t, f.host))
	}
	return container.NewCache(slog.New(slog.DiscardHandler), ds...)
}

func TestList(t *testing.T) {
	one, two := newFakeDocker(t), newFakeDocker(t)
	one.put(idA, running(idA, "web"))
	one.put(strings.Repeat("c", 64), stopped(strings.Repeat("c", 64), "done"))
	two.put(idB, running(idB, "web"))
	two.setVersion(object{"Version": "5", "Components": []object{{"Name": "Podman Engine"}}})
	got, err := over(t, one, two).List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mounts := []identity.Mount{{Type: "bind", Source: "/run/claudefs/mnt/web", Destination: "/root/.claude"}}
	want := []container.Summary{
		{ID: idA, Name: "web", Image: "nginx:1", ImageID: "sha256:1234", Runtime: "docker", Host: one.host, Running: true, Mounts: mounts},
		{ID: idB, Name: "web", Image: "nginx:1", ImageID: "sha256:1234", Runtime: "podman", Host: two.host, Running: true, Mounts: mounts},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFind(t *testing.T) {
	idC, idD := "ca"+strings.Repeat("0", 62), "cb"+strings.Repeat("0", 62)
	one, two := newFakeDocker(t), newFakeDocker(t)
	for id, name := range map[string]string{idA: "web", idC: "same", idD: "aaaa"} {
		one.put(id, running(id, name))
	}
	two.put(idB, running(idB, "same"))
	idE := "e" + strings.Repeat("0", 63)
	two.put(idE, stopped(idE, idB[:63]+"f")) // named like an id that nobody has
	c := over(t, one, two)
	for _, q := range []struct {
		what, ask string
		want      string // the id
		err       error
	}{
		{"name", "web", idA, nil},
		{"name with a slash", "/web", idA, nil},
		{"full id", idB, idB, nil},
		{"beginning of an id", "bb", idB, nil},
		{"beginning of two ids", "c", "", container.ErrAmbiguous},
		{"enough of it", "ca", idC, nil},
		{"a name in two runtimes", "same", "", container.ErrAmbiguous},
		{"one's name is another's short id", "aaaa", "", container.ErrAmbiguous},
		{"a longer beginning is no name", "aaaaa", idA, nil},
		{"one that does not run", "e0", idE, nil},
		{"a name that looks like a full id", idB[:63] + "f", "", identity.ErrNoContainer},
		{"nobody's name", "nobody", "", identity.ErrNoContainer},
		{"nothing", "", "", identity.ErrNoContainer},
		{"a path", "../images/x", "", identity.ErrNoContainer},
	} {
		got, err := c.Find(context.Background(), q.ask)
		if !errors.Is(err, q.err) || q.err == nil && (err != nil || got.ID != q.want) {
			t.Errorf("%s (%s): got %+v, %v", q.what, q.ask, got, err)
		}
	}
	_, err := c.Find(context.Background(), "same")
	for _, word := range []string{idB, idC, one.host, two.host} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

// One socket by two paths is one runtime known twice, not two containers.
func TestFindOverOneSocketTwice(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "web"))
	if got, err := over(t, f, f).Find(context.Background(), "web"); err != nil || got.ID != idA {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The list and the question after it share one limit.
func TestFindIsBounded(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "web"))
	list, inspect := make(chan struct{}), make(chan struct{})
	defer close(inspect)
	f.holdInspect(list)
	time.AfterFunc(1500*time.Millisecond, func() { f.holdInspect(inspect); close(list) })
	start := time.Now()
	_, err := over(t, f).Find(context.Background(), "web")
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || f.inspects.Load() != 1 || took > 3*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
}
