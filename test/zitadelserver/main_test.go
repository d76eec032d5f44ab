package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets a test start this binary as the program.
func TestMain(m *testing.M) {
	if os.Getenv("ZITADELSERVER_MAIN") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestProcessEnds(t *testing.T) {
	for name, end := range map[string]func(*os.Process, io.Closer) error{
		"SIGTERM": func(p *os.Process, _ io.Closer) error { return p.Signal(syscall.SIGTERM) },
		"stdin":   func(_ *os.Process, stdin io.Closer) error { return stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "ZITADELSERVER_MAIN=1")
			cmd.Stderr = os.Stderr
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var h harness
			if err := json.NewDecoder(stdout).Decode(&h.endpoints); err != nil {
				t.Fatal(err)
			}
			if cred := h.login(t, ""); !h.active(t, cred.AccessToken) {
				t.Error("the access token is not live")
			}
			if err := end(cmd.Process, stdin); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the process ended with %v", err)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"other address":   {"-listen", "0.0.0.0:0"},
		"host name":       {"-listen", "localhost:0"},
		"lifetime":        {"-lifetime", "1500ms"},
		"extra argument":  {"now"},
		"unknown flag":    {"-unknown"},
		"no port in flag": {"-listen", "127.0.0.1"},
	} {
		std := stdio{strings.NewReader(""), io.Discard, io.Discard}
		if err := run(t.Context(), args, std); err == nil {
			t.Errorf("%s: run accepted %q", name, args)
		}
	}
}
