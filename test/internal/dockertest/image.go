package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// ImagePath is the PATH of the images' processes.
const ImagePath = "/usr/local/bin:/usr/bin:/bin"

// Image describes an image to build. It has busybox with all its applets, the
// users root and node (1000:1000, home /home/node), and what is listed here.
type Image struct {
	// Name is the image's reference, such as "claudefs-test:1".
	Name string

	// Labels become LABELs of the image, which Docker merges into the labels
	// of each container made from it.
	Labels map[string]string

	// Binaries are programs of this machine that containers will run from a
	// bind mount. The image gets the shared libraries they need, not the
	// programs: the real client has 380 MB, its libraries 4 MB.
	Binaries []string

	// Files maps absolute paths in the image to contents. The files belong to
	// root and are executable.
	Files map[string]string
}

// BuildImage makes the image. It takes 0.2 s, and contacts no registry.
func (d *Daemon) BuildImage(ctx context.Context, img Image) error {
	archive, err := img.archive(ctx)
	if err != nil {
		return fmt.Errorf("build image %s: %w", img.Name, err)
	}
	args := []string{"import", "-c", "ENV PATH=" + ImagePath, "-c", `CMD ["/bin/sh"]`}
	for _, key := range slices.Sorted(maps.Keys(img.Labels)) {
		args = append(args, "-c", "LABEL "+quoteLabel(key)+"="+quoteLabel(img.Labels[key]))
	}
	cmd := d.Docker(ctx, append(args, "-", img.Name)...)
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build image %s: %w: %s", img.Name, err, bytes.TrimSpace(out))
	}
	return nil
}

// quoteLabel quotes a word of a Dockerfile's LABEL, where "$" would begin a
// variable. Line ends cannot be written there.
func quoteLabel(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(s) + `"`
}

const (
	imagePasswd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\n"
	imageGroup  = "root:x:0:\nnode:x:1000:\n"
)

// archive returns the image's root file system as a tar stream.
func (img Image) archive(ctx context.Context) (*bytes.Buffer, error) {
	buf := new(bytes.Buffer)
	a := &archiver{w: tar.NewWriter(buf), dirs: map[string]bool{"/": true}}
	for _, dir := range []string{"/bin", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/usr/bin", "/usr/local/bin"} {
		a.mkdirAll(dir)
	}
	a.add(tar.Header{Typeflag: tar.TypeDir, Name: "/tmp", Mode: 0o1777}, nil)
	a.add(tar.Header{Typeflag: tar.TypeDir, Name: "/home/node", Mode: 0o755, Uid: 1000, Gid: 1000}, nil)
	a.addFile("/etc/passwd", 0o644, []byte(imagePasswd))
	a.addFile("/etc/group", 0o644, []byte(imageGroup))
	if err := a.addBusybox(ctx); err != nil {
		return nil, err
	}
	libs, err := libraries(ctx, img.Binaries)
	if err != nil {
		return nil, err
	}
	for _, lib := range libs {
		if err := a.copyFile(lib, lib); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(img.Files)) {
		a.addFile(name, 0o755, []byte(img.Files[name]))
	}
	if a.err != nil {
		return nil, fmt.Errorf("write archive: %w", a.err)
	}
	if err := a.w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return buf, nil
}

// archiver writes a tar stream, and keeps the first error.
type archiver struct {
	w    *tar.Writer
	dirs map[string]bool // absolute paths written already
	err  error
}

func (a *archiver) add(h tar.Header, content []byte) {
	if a.err != nil {
		return
	}
	if h.Typeflag == tar.TypeDir {
		a.dirs[h.Name] = true
	}
	h.Name = strings.TrimPrefix(h.Name, "/")
	h.Size = int64(len(content))
	h.ModTime = time.Unix(0, 0) // the same input makes the same layer
	if a.err = a.w.WriteHeader(&h); a.err == nil {
		_, a.err = a.w.Write(content)
	}
}

// mkdirAll adds the directory and those above it, unless they are there.
func (a *archiver) mkdirAll(dir string) {
	if a.dirs[dir] {
		return
	}
	a.mkdirAll(path.Dir(dir))
	a.add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
}

func (a *archiver) addFile(name string, mode int64, content []byte) {
	name = path.Clean("/" + name)
	a.mkdirAll(path.Dir(name))
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

// copyFile adds a program or library of this machine, links followed.
func (a *archiver) copyFile(name, source string) error {
	content, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("read file for image: %w", err)
	}
	a.addFile(name, 0o755, content)
	return nil
}
