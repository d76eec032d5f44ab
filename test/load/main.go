// Load works on a mounted ~/.claude directory in as many ways as programs do,
// while the file server behind the mount is killed and replaced. The file
// system promises that a kill makes an operation slower and never makes it
// fail, so every failed call, every acknowledged write that is not there
// afterwards and every line appended twice counts against it.
//
// One process at a time may work on a directory: its workers rely on being the
// only users of the names they take. The result is one JSON object on standard
// output; the exit status is 0 if nothing went wrong, 1 if something did and 2
// if the command line is not usable. The first failures of each worker also go
// to standard error when they happen, with the time of day.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options is the command line.
type options struct {
	dir      string
	only     string
	duration time.Duration
	pause    time.Duration
	hang     time.Duration
	plain    bool
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout))
}

// run is the whole program and returns its exit status.
func run(args []string, out io.Writer) int {
	opt, err := parseOptions(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 2
	}
	teams, err := assemble(opt)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills as usual

	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx, teams, opt)
	}()
	watch(teams, done, opt.hang)

	result := summarize(teams)
	if err := json.NewEncoder(out).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	if !result.clean() {
		return 1
	}
	return 0
}

// parseOptions reads the command line.
func parseOptions(args []string) (options, error) {
	var opt options
	set := flag.NewFlagSet("load", flag.ContinueOnError)
	set.StringVar(&opt.dir, "dir", "", "the directory to work on")
	set.StringVar(&opt.only, "only", "", "comma separated `names` of the workers to run (default all)")
	set.DurationVar(&opt.duration, "duration", 10*time.Second, "how long to work")
	set.DurationVar(&opt.pause, "pause", time.Millisecond, "sleep between two rounds of a worker")
	set.DurationVar(&opt.hang, "hang", 2*time.Minute, "a single call longer than this is a failure and ends the run")
	set.BoolVar(&opt.plain, "plain", false, "the directory is an ordinary one, where a reader sees a rewrite in place half done: keep the credential readers out of it")
	if err := set.Parse(args); err != nil {
		return opt, err
	}
	if opt.dir == "" || set.NArg() > 0 {
		return opt, errors.New("usage: load -dir DIR [-duration D] [-pause D] [-only a,b] [-hang D] [-plain]")
	}
	st, err := os.Stat(opt.dir)
	if err != nil {
		return opt, err
	}
	if !st.IsDir() {
		return opt, fmt.Errorf("%s is not a directory", opt.dir)
	}
	opt.dir, err = filepath.Abs(opt.dir) // one worker changes the current directory
	return opt, err
}

// assemble pairs each wanted worker with the lane it records into.
func assemble(opt options) ([]team, error) {
	place := &site{dir: opt.dir, run: fmt.Sprintf("%x", time.Now().UnixNano())}
	wanted := map[string]bool{}
	for _, name := range strings.FieldsFunc(opt.only, func(r rune) bool { return r == ',' || r == ' ' }) {
		wanted[name] = true
	}
	all := len(wanted) == 0
	var teams []team
	for _, w := range allWorkers(opt.plain) {
		if all || wanted[w.name] {
			teams = append(teams, team{worker: w, lane: &lane{name: w.name}, site: place})
			delete(wanted, w.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("no worker is called %q", name)
	}
	return teams, nil
}
