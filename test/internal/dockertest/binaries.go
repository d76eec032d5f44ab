package dockertest

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// addBusybox adds the machine's busybox, and a link for each applet it has.
func (a *archiver) addBusybox(ctx context.Context) error {
	file, err := lookPath("busybox")
	if err != nil {
		return err
	}
	if dynamic, err := isDynamic(file); err != nil || dynamic {
		return errors.Join(fmt.Errorf("use %s: not a static program; install busybox-static", file), err)
	}
	if err := a.copyFile("/bin/busybox", file); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, file, "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox applets: %w", err)
	}
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: "/bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	return nil
}

// libraryPath finds the files in ldd's output, which has lines like
//
//	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f…)
//	/lib64/ld-linux-x86-64.so.2 (0x00007f…)
var libraryPath = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/\S+) \(0x`)

// libraries returns the shared libraries and loaders that the programs need.
func libraries(ctx context.Context, programs []string) ([]string, error) {
	var libs []string
	for _, program := range programs {
		dynamic, err := isDynamic(program)
		if err != nil {
			return nil, err
		}
		if !dynamic {
			continue
		}
		out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
		if err != nil || strings.Contains(string(out), "not found") {
			return nil, errors.Join(fmt.Errorf("find libraries of %s: %s", program, out), err)
		}
		for _, match := range libraryPath.FindAllStringSubmatch(string(out), -1) {
			libs = append(libs, match[1])
		}
	}
	slices.Sort(libs)
	return slices.Compact(libs), nil
}

// isDynamic reports whether the program asks for a loader.
func isDynamic(program string) (bool, error) {
	f, err := elf.Open(program)
	if err != nil {
		return false, fmt.Errorf("read program %s: %w", program, err)
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}
