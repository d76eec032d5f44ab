package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/internal/control"
)

// env is all that a command may touch, and the global flags.
type env struct {
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string

	configFile string
	logFormat  string
	logLevel   string
}

// config loads the configuration.
func (e *env) config() (*config.Config, error) {
	return config.Load(e.configFile, config.DefaultPaths(os.Geteuid()), e.Getenv)
}

// daemon is a client for the daemon of this configuration.
func (e *env) daemon() (control.Client, *config.Config, error) {
	c, err := e.config()
	if err != nil {
		return control.Client{}, nil, err
	}
	return control.Client{Socket: c.ControlSocket()}, c, nil
}

// logger writes to standard error.
func (e *env) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q: want debug, info, warn or error", e.logLevel)}
	}
	opt := &slog.HandlerOptions{Level: level}
	switch e.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(e.Stderr, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(e.Stderr, opt)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q: want text or json", e.logFormat)}
}

// envName is the variable of a flag: --log-level is CLAUDEFS_LOG_LEVEL.
func envName(flag string) string {
	return "CLAUDEFS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
