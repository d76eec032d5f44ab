package dockertest

// engine is what differs between the daemons that serve Docker's API.
type engine struct {
	program  string   // its executable
	needs    []string // programs that must be there besides
	guardian string   // the guardian's script
	// args writes the configuration below root and returns the command line.
	args func(d *Daemon, extra []string) ([]string, error)
	// env is what every process of the daemon has in its environment.
	env func(d *Daemon) []string
}

var docker = &engine{
	program:  "dockerd",
	needs:    []string{"containerd", "runc", "busybox"},
	guardian: guardianScript,
	args:     (*Daemon).daemonArgs,
	env:      func(*Daemon) []string { return nil },
}
