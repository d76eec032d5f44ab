package container_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
)

func saved(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/saved/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// savedFacts are those of the files in testdata, with the image's file and without.
func savedFacts(runtime, image string, proven bool) *identity.Facts {
	f := &identity.Facts{
		ID: "44ad7eea51bb34f0a418008cfc22831ebafa57527afafdb5da4dbdd1cb967dc0", Name: "confident_knuth", Image: image,
		ImageID: "sha256:7a6fbb98f634f6cc7cd25ab282f506efb1657671566a470cdc52cc34c509c462", Runtime: runtime, User: "1000",
		Started: time.Date(2026, 11, 26, 1, 46, 44, 865691967, time.UTC), InitPID: 13312,
		Labels: map[string]string{"team": "operators", "own": "o", "from.image": "x"},
		Mounts: []identity.Mount{{Type: "bind", Source: "/tmp/w/ptry/img", Destination: "/x"}},
	}
	if proven {
		f.Digests = []string{"sha256:f81dea0a5d570b6f04cd607e8cb41a40447b499ab1ea34e692d5eb53ebf1ebc1"}
		delete(f.Labels, "from.image")
	}
	return f
}

func TestFromInspect(t *testing.T) {
	for _, c := range []struct{ runtime, image string }{{"docker", "t:1"}, {"podman", "docker.io/library/t:1"}} {
		data, image := saved(t, c.runtime), saved(t, c.runtime+"-image")
		for _, proven := range []bool{true, false} {
			if !proven {
				image = nil
			}
			got, err := container.FromInspect(data, image)
			if err != nil {
				t.Errorf("%s: %v", c.runtime, err)
				continue
			}
			want := &container.Saved{Facts: savedFacts(c.runtime, c.image, proven), LabelsUnproven: !proven}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, image known %v: %s", c.runtime, proven, diff)
			}
		}
	}
}

// An object, as "--format '{{json .}}'" prints it, is as good as a list of one.
func TestFromInspectTakesAnObject(t *testing.T) {
	for _, runtime := range []string{"docker", "podman"} {
		data := strings.Trim(strings.TrimSpace(string(saved(t, runtime))), "[]")
		if got, err := container.FromInspect([]byte(data), nil); err != nil || got.Facts.Name != "confident_knuth" {
			t.Errorf("%s: got %+v, %v", runtime, got, err)
		}
	}
}

// edited returns a file with the value at the place replaced, or without it when the value is nil.
func edited(t *testing.T, name, place string, value any) []byte {
	t.Helper()
	var list []object
	if err := json.Unmarshal(saved(t, name), &list); err != nil {
		t.Fatal(err)
	}
	o, key := list[0], place
	if outer, inner, nested := strings.Cut(place, "."); nested {
		o, key = o[outer].(object), inner
	}
	if o[key] = value; value == nil {
		delete(o, key)
	}
	data, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFromInspectMissesNothing(t *testing.T) {
	for _, runtime := range []string{"docker", "podman"} {
		for _, place := range []string{
			"Id", "Name", "Image", "State", "State.Pid", "State.StartedAt", "Config", "Config.Image", "Config.User",
			"Config.Labels", "HostConfig", "HostConfig.Privileged", "HostConfig.PidMode", "HostConfig.CapAdd", "Mounts",
		} {
			for what, value := range map[string]any{"missing": nil, "of another type": []int{1}, "null": json.RawMessage("null")} {
				list := place == "Config.Labels" || place == "HostConfig.CapAdd" || place == "Mounts" // null is an empty one
				_, err := container.FromInspect(edited(t, runtime, place, value), nil)
				if what == "null" && list {
					if err != nil {
						t.Errorf("%s: %s null: %v", runtime, place, err)
					}
					continue
				}
				if !errors.Is(err, container.ErrSaved) || !strings.Contains(err.Error(), place) || !strings.Contains(err.Error(), "save all") {
					t.Errorf("%s: %s %s: got %v, want ErrSaved, the place and the remedy", runtime, place, what, err)
				}
			}
		}
	}
}

func TestFromInspectRefuses(t *testing.T) {
	good, image := string(saved(t, "docker")), string(saved(t, "docker-image"))
	one := strings.Trim(strings.TrimSpace(good), "[]")
	for _, c := range []struct{ name, container, image, says string }{
		{"nothing", "", "", "unexpected end"},
		{"no JSON", "Error: No such object: web", "", "invalid character"},
		{"none", "[]", "", "describes 0"},
		{"null", "null", "", "Id: missing"},
		{"a list of null", "[null]", "", "Id: missing"},
		{"two", "[" + one + "," + one + "]", "", "describes 2"},
		{"more after it", one + "{}", "", "invalid character"},
		{"a number", "7", "", "cannot unmarshal"},
		{"an image", image, "", "Name: missing"},
		{"id that is none", string(edited(t, "docker", "Id", "44ad7eea51bb")), "", "64 hexadecimal"},
		{"key in other letters", strings.Replace(good, `"Privileged"`, `"privileged"`, 1), "", "HostConfig.Privileged: missing"},
		{"mount without source", string(edited(t, "docker", "Mounts", []object{{"Type": "bind", "Destination": "/x"}})), "", "mount 0: key Source"},
		{"mount null", string(edited(t, "docker", "Mounts", []any{nil})), "", "mount 0: key Type"},
		{"another image", good, string(edited(t, "docker-image", "Id", "sha256:00")), "it is sha256:00"},
		{"a container as image", good, good, "the container's image is"},
		{"image without configuration", good, string(edited(t, "docker-image", "Config", nil)), "Config: missing"},
		{"image's labels of another type", good, string(edited(t, "docker-image", "Config.Labels", "x")), "Labels"},
		{"image empty", good, " ", "unexpected end"},
	} {
		var img []byte
		if c.image != "" {
			img = []byte(c.image)
		}
		got, err := container.FromInspect([]byte(c.container), img)
		if !errors.Is(err, container.ErrSaved) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %+v, %v, want ErrSaved that says %q", c.name, got, err, c.says)
		}
	}
}

// Runtimes leave out of an image's configuration what is empty.
func TestFromInspectOfABareImage(t *testing.T) {
	image := []byte(`{"Id":"sha256:7a6fbb98f634f6cc7cd25ab282f506efb1657671566a470cdc52cc34c509c462","Config":{}}`)
	got, err := container.FromInspect(saved(t, "docker"), image)
	if err != nil || got.LabelsUnproven || len(got.Facts.Labels) != 3 || got.Facts.Digests != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFromInspectSeesPowers(t *testing.T) {
	for _, c := range []struct {
		place string
		value any
		want  string
	}{
		{"HostConfig.Privileged", true, "privileged"},
		{"HostConfig.PidMode", "host", "host pid"},
		{"HostConfig.CapAdd", []string{"CAP_SYS_ADMIN"}, "SYS_ADMIN"},
		{"Mounts", []object{{"Type": "bind", "Source": "/run", "Destination": "/x"}}, "mount of /run"},
	} {
		got, err := container.FromInspect(edited(t, "podman", c.place, c.value), nil)
		if err != nil || len(got.Facts.Powers) != 1 || got.Facts.Powers[0] != c.want {
			t.Errorf("%s: got %+v, %v, want %s", c.place, got, err, c.want)
		}
	}
}

// The seeds are the saved files and those in testdata/fuzz.
func FuzzFromInspect(f *testing.F) {
	for _, runtime := range []string{"docker", "podman"} {
		f.Add(saved(f, runtime), saved(f, runtime+"-image"))
	}
	f.Fuzz(func(t *testing.T, inspected, image []byte) {
		got, err := container.FromInspect(inspected, image)
		if err != nil {
			if !errors.Is(err, container.ErrSaved) || got != nil {
				t.Errorf("got %+v, %v", got, err)
			}
			return
		}
		if len(got.Facts.ID) != 64 || got.Facts.Labels == nil || got.LabelsUnproven != (image == nil) {
			t.Errorf("got %+v", got.Facts)
		}
	})
}
