package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// figure is what one reader process measured.
type figure struct {
	P50, P99 time.Duration
	PerSec   float64
}

// readerMain opens, reads and closes file count times on each of n threads and prints a figure.
func readerMain(args []string) error {
	file := args[0]
	n, err1 := strconv.Atoi(args[1])
	count, err2 := strconv.Atoi(args[2])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("reader: bad arguments %q", args)
	}
	all := make([][]time.Duration, n)
	errs := make([]error, n)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i], errs[i] = measure(file, count/n) })
	}
	wg.Wait()
	took := time.Since(begun)
	var lat []time.Duration
	for i := range n {
		if errs[i] != nil {
			return errs[i]
		}
		lat = append(lat, all[i]...)
	}
	slices.Sort(lat)
	return json.NewEncoder(os.Stdout).Encode(figure{P50: lat[len(lat)/2], P99: lat[len(lat)*99/100], PerSec: float64(len(lat)) / took.Seconds()})
}

// measure uses system calls directly: os.File would add its poller to every figure.
func measure(file string, count int) ([]time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, 64<<10)
	lat := make([]time.Duration, 0, count)
	for range count {
		begun := time.Now()
		fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", file, err)
		}
		n, err := syscall.Read(fd, buf)
		_ = syscall.Close(fd)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("read %s: %d bytes: %w", file, n, err)
		}
		lat = append(lat, time.Since(begun))
	}
	return lat, nil
}
