package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// target is a file that readers read, and how a reader gets to it.
type target struct {
	name    string
	file    string
	wrapper []string // command and arguments in front of the reader's
}

// run sets everything up, measures in interleaved rounds and prints the tables.
func run(claudefs string, count, rounds, reads, kills int, only string) (err error) {
	dir, err := os.MkdirTemp("", "claudefs-bench-")
	if err != nil {
		return err
	}
	b := &bench{dir: dir}
	defer func() { err = errors.Join(err, b.close()) }()
	b.closeOnSignal()
	if claudefs, err = filepath.Abs(claudefs); err != nil {
		return err
	}
	if only == "survive" {
		return b.survive(claudefs, count, rounds, kills)
	}
	targets, err := b.plain()
	if err != nil {
		return err
	}
	for _, kind := range []string{"server", "server1", "loop"} {
		t, err := b.null(kind)
		if err != nil {
			return err
		}
		targets = append(targets, t)
	}
	h, err := b.claudefs(claudefs, "claudefs")
	if err != nil {
		return err
	}
	targets = append(targets, h.target("claudefs"))
	if err := table(targets, count, rounds); err != nil {
		return err
	}
	if err := h.report(count, reads); err != nil {
		return err
	}
	return b.survive(claudefs, count, rounds, kills)
}

// bench is what has to be undone.
type bench struct {
	dir  string
	undo []func() error
}

func (b *bench) close() error {
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i]())
	}
	b.undo = nil
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// closeOnSignal undoes everything when the program is told to end, or when nobody reads its output any more.
func (b *bench) closeOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	go func() {
		<-signals
		_ = b.close()
		os.Exit(130)
	}()
}

// plain are the ordinary file systems.
func (b *bench) plain() ([]target, error) {
	ram := filepath.Join(b.dir, "tmpfs")
	if err := os.Mkdir(ram, 0o755); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", ram, "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	b.undo = append(b.undo, func() error { return syscall.Unmount(ram, syscall.MNT_DETACH) })
	out := []target{{name: "disk (" + fsName(b.dir) + ")", file: filepath.Join(b.dir, "file")}, {name: "tmpfs", file: filepath.Join(ram, "file")}}
	for _, t := range out {
		if err := os.WriteFile(t.file, make([]byte, 1024), 0o644); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fsName(dir string) string {
	out, err := exec.Command("stat", "-f", "-c", "%T", dir).Output()
	if err != nil || len(out) == 0 {
		return "unknown"
	}
	return string(out[:len(out)-1])
}

// null serves the empty operation in a process of its own.
func (b *bench) null(kind string) (target, error) {
	names := map[string]string{"server": "empty go-fuse Server", "server1": "empty go-fuse Server, GOMAXPROCS=1", "loop": "empty go-fuse ProtocolServer, own loop"}
	mnt := filepath.Join(b.dir, "null-"+kind)
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return target{}, err
	}
	how := kind
	if kind == "server1" {
		how = "server"
	}
	cmd := exec.Command("/proc/self/exe", "null", how, mnt)
	cmd.Stderr = os.Stderr
	if kind == "server1" {
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	if err := cmd.Start(); err != nil {
		return target{}, err
	}
	b.undo = append(b.undo, func() error {
		err := syscall.Unmount(mnt, syscall.MNT_DETACH)
		_ = cmd.Wait()
		return err
	})
	file := filepath.Join(mnt, "file")
	return target{name: names[kind], file: file}, awaitFile(file)
}

// read runs a reader process.
func (t target) read(threads, count int) (figure, error) {
	self, err := os.Executable()
	if err != nil {
		return figure{}, err
	}
	argv := append(slices.Clone(t.wrapper), self, "reader", t.file, strconv.Itoa(threads), strconv.Itoa(count))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return figure{}, fmt.Errorf("read %s: %w", t.name, err)
	}
	var f figure
	return f, json.Unmarshal(out, &f)
}

// table prints open+read+close for every target with 1 and 16 readers, as medians of interleaved rounds.
func table(targets []target, count, rounds int) error {
	for _, threads := range []int{1, 16} {
		got := make([][]figure, len(targets))
		for range rounds {
			for i, t := range targets {
				f, err := t.read(threads, count)
				if err != nil {
					return err
				}
				got[i] = append(got[i], f)
			}
		}
		fmt.Printf("\nopen+read+close, 1 KiB, %d reader(s), median of %d rounds of %d\n\n", threads, rounds, count)
		fmt.Println("| target | p50 µs | p99 µs | reads/s | p50 against an empty go-fuse operation |\n|---|---|---|---|---|")
		base := middle(got[2], func(f figure) float64 { return f.P50.Seconds() })
		for i, t := range targets {
			p50 := middle(got[i], func(f figure) float64 { return f.P50.Seconds() })
			p99 := middle(got[i], func(f figure) float64 { return f.P99.Seconds() })
			rate := middle(got[i], func(f figure) float64 { return f.PerSec })
			fmt.Printf("| %s | %.1f | %.1f | %.0f | %.2f |\n", t.name, p50*1e6, p99*1e6, rate, p50/base)
		}
	}
	return nil
}

func middle(all []figure, of func(figure) float64) float64 {
	var v []float64
	for _, f := range all {
		v = append(v, of(f))
	}
	slices.Sort(v)
	return v[len(v)/2]
}
