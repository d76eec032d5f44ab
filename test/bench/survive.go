package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/claudefs/claudefs/internal/keeper"
)

// survive measures what outliving the server costs: on the normal path, and at a server's death.
func (b *bench) survive(binary string, count, rounds, kills int) error {
	kept, err := b.claudefs(binary, "kept")
	if err != nil {
		return err
	}
	bare, err := b.claudefs(binary, "bare", "--keeper", "none")
	if err != nil {
		return err
	}
	if err := compare(kept, bare, count, rounds); err != nil {
		return err
	}
	if err := kept.pauses(kills); err != nil {
		return err
	}
	fmt.Printf("\n| files that the kernel knows | kill to next answer, p50 of 9 | max |\n|---|---|---|\n")
	for _, nodes := range []int{10, 1000, 100_000} {
		if err := kept.takeover(nodes); err != nil {
			return err
		}
	}
	return nil
}

// compare reads from both in interleaved rounds.
func compare(kept, bare *host, count, rounds int) error {
	fmt.Printf("\n| readers | with keeper, p50 µs | without, p50 µs | ratio |\n|---|---|---|---|\n")
	for _, threads := range []int{1, 16} {
		var got [2][]figure
		for range rounds {
			for i, h := range []*host{kept, bare} {
				f, err := h.target("").read(threads, count)
				if err != nil {
					return err
				}
				got[i] = append(got[i], f)
			}
		}
		p50 := func(f figure) float64 { return f.P50.Seconds() }
		a, b := middle(got[0], p50), middle(got[1], p50)
		fmt.Printf("| %d | %.0f | %.0f | %.2f |\n", threads, a*1e6, b*1e6, a/b)
	}
	return nil
}

// kill ends the server and returns when another one serves.
func (h *host) kill() error {
	s, err := keeper.ReadStatus(filepath.Join(h.dir, "run"))
	if err != nil {
		return err
	}
	if err := syscall.Kill(s.Server, syscall.SIGKILL); err != nil {
		return err
	}
	return h.serving(s.Server)
}

func (h *host) serving(old int) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s, err := keeper.ReadStatus(filepath.Join(h.dir, "run"))
		if err == nil && s.State == keeper.Serving && s.Server != old {
			return nil
		}
	}
	return errors.New("no server comes up")
}

// pauses has a reader read a thousand times a second while the server is killed over and over.
func (h *host) pauses(kills int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := make(chan []byte, 1)
	errs := make(chan error, 1)
	t := h.target("paused")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append(slices.Clone(t.wrapper), self, "pauses", t.file, strconv.Itoa(kills))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		b, err := cmd.Output()
		out <- b
		errs <- err
	}()
	time.Sleep(500 * time.Millisecond)
	for range kills {
		time.Sleep(200 * time.Millisecond)
		if err := h.kill(); err != nil {
			return err
		}
	}
	_ = stdin.Close()
	b := <-out
	if err := <-errs; err != nil {
		return err
	}
	var worst []time.Duration
	if err := json.Unmarshal(b, &worst); err != nil {
		return err
	}
	fmt.Printf("\n| pause that a reader sees, %d kills | p50 | p90 | p99 | max |\n|---|---|---|---|---|\n| | %v | %v | %v | %v |\n", kills,
		at(worst, 50), at(worst, 90), at(worst, 99), worst[len(worst)-1].Round(100*time.Microsecond))
	return nil
}

func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(100 * time.Microsecond)
}

// pausesMain reads until standard input ends, and prints the n longest reads in order: one for each kill.
func pausesMain(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(over)
	}()
	var all []time.Duration
	for {
		select {
		case <-over:
			slices.Sort(all)
			return json.NewEncoder(os.Stdout).Encode(all[max(0, len(all)-n):])
		default:
		}
		lat, err := measure(args[0], 1)
		if err != nil {
			return err
		}
		all = append(all, lat[0])
		time.Sleep(time.Millisecond)
	}
}

// takeover measures the time from a kill to the next answer with so many files known to the kernel.
func (h *host) takeover(nodes int) error {
	dir := filepath.Join(h.dir, "state", "trees", "web", fmt.Sprintf("n%d", nodes))
	for i := range nodes {
		sub := filepath.Join(dir, strconv.Itoa(i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), nil, 0o644); err != nil {
			return err
		}
	}
	t := h.target("walk")
	place := filepath.Dir(t.file)
	argv := append(slices.Clone(t.wrapper), "sh", "-c", `find "$1/$2" -size +1G; touch "$3/walked"; cd "$1/$2"; while [ ! -e "$3/over" ]; do sleep 0.05; done; rm "$3/over" "$3/walked"`,
		"walk", place, filepath.Base(dir), h.dir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := awaitFile2(filepath.Join(h.dir, "walked")); err != nil {
		return err
	}
	var took []time.Duration
	for range 9 {
		d, err := h.timeKill()
		if err != nil {
			return err
		}
		took = append(took, d)
		time.Sleep(200 * time.Millisecond)
	}
	slices.Sort(took)
	fmt.Printf("| %d | %v | %v |\n", nodes, took[4].Round(100*time.Microsecond), took[8].Round(100*time.Microsecond))
	return errors.Join(os.WriteFile(filepath.Join(h.dir, "over"), nil, 0o644), cmd.Wait())
}

func awaitFile2(file string) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s did not appear", file)
}

// timeKill kills the server and asks for the root's attributes, which nobody caches, until there is an answer.
func (h *host) timeKill() (time.Duration, error) {
	s, err := keeper.ReadStatus(filepath.Join(h.dir, "run"))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := syscall.Kill(s.Server, syscall.SIGKILL); err != nil {
		return 0, err
	}
	if _, err := os.Stat(filepath.Join(h.mnt, "web", ".credentials.json")); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, h.serving(s.Server)
}
