package main

import (
	"fmt"
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// nullFS is the least that a FUSE server can do: one file of 1 KiB, no attribute cached.
type nullFS struct{ fuse.RawFileSystem }

var nullContent = make([]byte, 1024)

func attr(node uint64, a *fuse.Attr) {
	a.Ino, a.Nlink = node, 1
	if node == 1 {
		a.Mode = fuse.S_IFDIR | 0o755
		return
	}
	a.Mode, a.Size = fuse.S_IFREG|0o644, uint64(len(nullContent))
}

func (nullFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, _ string, out *fuse.EntryOut) fuse.Status {
	out.NodeId, out.Generation = 2, 1
	attr(2, &out.Attr)
	return fuse.OK
}

func (nullFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (nullFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func (nullFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	return fuse.ReadResultData(nullContent[min(int(in.Offset), len(nullContent)):]), fuse.OK
}

func (nullFS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

func (nullFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// nullMain serves nullFS at args[1]: with go-fuse's Server, or with a loop of our own over its ProtocolServer.
func nullMain(args []string) error {
	fs := nullFS{fuse.NewDefaultRawFileSystem()}
	opts := &fuse.MountOptions{FsName: "null", DirectMountStrict: true, MaxWrite: 128 << 10}
	if args[0] == "server" {
		s, err := fuse.NewServer(fs, args[1], opts)
		if err != nil {
			return err
		}
		s.Serve()
		return nil
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	o := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("null", args[1], "fuse.null", unix.MS_NOSUID|unix.MS_NODEV, o); err != nil {
		return err
	}
	return loop(fd, fuse.NewProtocolServer(fs, opts))
}

// loop is one thread that reads a request and writes its answer.
func loop(fd int, ps *fuse.ProtocolServer) error {
	in, out := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, in)
		switch err {
		case nil:
		case unix.EINTR, unix.ENOENT:
			continue
		case unix.ENODEV:
			return nil
		default:
			return err
		}
		m, _ := ps.HandleRequest([][]byte{in[:n]}, [][]byte{out})
		if m > 0 {
			if _, err := unix.Write(fd, out[:m]); err != nil && err != unix.ENOENT {
				return err
			}
		}
	}
}

// awaitFile waits until file can be read.
func awaitFile(file string) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f, err := os.Open(file); err == nil {
			return f.Close()
		}
	}
	return fmt.Errorf("%s did not appear", file)
}
