package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/claudefs/claudefs/internal/identity"
)

// ErrSaved: a file is not what inspect prints.
var ErrSaved = errors.New("not the saved output of inspect")

// Saved is what the saved output of inspect says of a container.
type Saved struct {
	Facts *identity.Facts
	// LabelsUnproven says that all labels count as the operator's, those of the image among them, because the image's
	// are not known: a rule that asks for a label may hold here and not for the container itself.
	LabelsUnproven bool
}

// FromInspect reads what "docker inspect" or "podman inspect" printed for one container and, unless image is nil, what
// the same program's "image inspect" printed for its image. Nothing that a decision rests on may be missing: an absent
// key must not read as "not privileged". Errors are ErrSaved, and name the place.
//
// Who serves the socket is told by the program: "docker inspect" of a container of Podman's reads as Docker's.
func FromInspect(inspected, image []byte) (*Saved, error) {
	c, engine, err := savedContainer(inspected)
	if err != nil {
		return nil, fmt.Errorf(`%w: container: %w; save all that "docker inspect NAME" or "podman inspect NAME" prints`, ErrSaved, err)
	}
	img := &imageFacts{}
	if image != nil {
		if img, err = savedImage(image, c.Image); err != nil {
			return nil, fmt.Errorf(`%w: image: %w; save all that "image inspect %s" prints`, ErrSaved, err, c.Image)
		}
	}
	return &Saved{Facts: factsOf(c, img, engine), LabelsUnproven: image == nil}, nil
}

// savedContainer reads by hand what the API's types cannot take from Podman, whose entry point and stop signal have
// other types, and what they would not miss.
func savedContainer(data []byte) (*container.InspectResponse, string, error) {
	o, err := single(data)
	if err != nil {
		return nil, "", err
	}
	c := &container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{State: &container.State{}, HostConfig: &container.HostConfig{}},
		Config:            &container.Config{},
	}
	err = o.read([]field{
		{"Id", &c.ID},
		{"Name", &c.Name},
		{"Image", &c.Image},
		{"State.Pid", &c.State.Pid},
		{"State.StartedAt", &c.State.StartedAt},
		{"Config.Image", &c.Config.Image},
		{"Config.User", &c.Config.User},
		{"Config.Labels", &c.Config.Labels},
		{"HostConfig.Privileged", &c.HostConfig.Privileged},
		{"HostConfig.PidMode", &c.HostConfig.PidMode},
		{"HostConfig.CapAdd", (*[]string)(&c.HostConfig.CapAdd)},
	})
	if err != nil {
		return nil, "", err
	}
	if !fullID.MatchString(c.ID) {
		return nil, "", fmt.Errorf("key Id: %q is not 64 hexadecimal digits", c.ID)
	}
	if c.Mounts, err = savedMounts(o); err != nil {
		return nil, "", err
	}
	c.Image = withAlgorithm(c.Image)
	if _, podman := o["ImageName"]; podman {
		return c, enginePodman, nil
	}
	return c, engineDocker, nil
}

func savedMounts(o object) ([]container.MountPoint, error) {
	var list []object
	if err := o.read([]field{{"Mounts", &list}}); err != nil {
		return nil, err
	}
	var out []container.MountPoint
	for i, m := range list {
		var p container.MountPoint
		if err := m.read([]field{{"Type", &p.Type}, {"Source", &p.Source}, {"Destination", &p.Destination}}); err != nil {
			return nil, fmt.Errorf("mount %d: %w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// savedImage reads the image of the id. Of its configuration, runtimes leave out what is empty.
func savedImage(data []byte, id string) (*imageFacts, error) {
	o, err := single(data)
	if err != nil {
		return nil, err
	}
	var got string
	var config object
	if err := o.read([]field{{"Id", &got}, {"Config", &config}}); err != nil {
		return nil, err
	}
	if withAlgorithm(got) != id {
		return nil, fmt.Errorf("key Id: it is %s, and the container's image is %s", withAlgorithm(got), id)
	}
	img := &imageFacts{}
	err = errors.Join(
		o.read(o.present(field{"RepoDigests", &img.digests})),
		config.read(config.present(field{"Labels", &img.labels}, field{"User", &img.user})))
	return img, err
}

// withAlgorithm returns an image's id as Docker writes it; Podman leaves the algorithm out.
func withAlgorithm(id string) string {
	if id == "" || strings.Contains(id, ":") {
		return id
	}
	return "sha256:" + id
}

// object is read by exact names. A struct would take "privileged" for "Privileged" too, and the later one of both.
type object map[string]json.RawMessage

// field is a place, at most one level down, and what to read it into.
type field struct {
	place string
	into  any
}

func (o object) read(fields []field) error {
	for _, f := range fields {
		from, key := o, f.place
		if outer, inner, nested := strings.Cut(f.place, "."); nested {
			from, key = nil, inner
			if err := o.read([]field{{outer, &from}}); err != nil {
				return err
			}
		}
		value, ok := from[key]
		if !ok {
			return fmt.Errorf("key %s: missing", f.place)
		}
		if k := reflect.TypeOf(f.into).Elem().Kind(); string(value) == "null" && k != reflect.Map && k != reflect.Slice {
			return fmt.Errorf("key %s: null", f.place) // which would read as false, or 0
		}
		if err := json.Unmarshal(value, f.into); err != nil {
			return fmt.Errorf("key %s: %w", f.place, err)
		}
	}
	return nil
}

// present returns those of the fields that are there.
func (o object) present(fields ...field) (out []field) {
	for _, f := range fields {
		if _, ok := o[f.place]; ok {
			out = append(out, f)
		}
	}
	return out
}

// single returns the object that data is, or that is alone in the list that data is.
func single(data []byte) (object, error) {
	list := []object{nil}
	into := any(&list[0])
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		into = &list
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("it describes %d, want 1", len(list))
	}
	return list[0], nil
}
