// Package dockertest runs a private Docker daemon for tests, or a private Podman
// service, which serves the same API: see NewPodman.
//
// The daemon has its own data root, exec root and socket below one temporary
// directory. It needs no network, no systemd and no image registry: images are
// made from the machine's static busybox, and containers have no network.
// Another dockerd on the machine is not disturbed. Some places Docker has no
// option for, so they are shared, and stay behind: the parent cgroup "/docker"
// and /run/containerd/s (random names, so nothing collides), dockerd's key
// /etc/docker/key.json (up to version 23), and the directory of plugin sockets
// /run/docker/plugins, where a test's plugin needs a name of its own. Of Podman
// these are the parent cgroup "/libpod_parent" and /run/runc, both by container
// id, and the empty /run/containers/networks.
//
// A test takes a daemon of its own with New; a package whose tests share one
// calls Start and Stop in TestMain:
//
//	d := dockertest.New(t, dockertest.Config{Args: []string{"--live-restore"}})
//	err := d.BuildImage(ctx, dockertest.Image{Name: "test:1", Binaries: []string{client}})
//	c := d.RunContainer(t, dockertest.RunConfig{
//		Image:   "test:1",
//		Volumes: []string{client + ":/usr/bin/claude:ro", tree + ":/root/.claude"},
//	})
//	stdout, stderr, code := c.Exec(ctx, "node", "claude", "auth", "status")
//
// # Cleaning up
//
// Containers outlive their dockerd (with --live-restore by design), and
// dockerd outlives its parent. So nothing here depends on a deferred call: next
// to each daemon runs a guardian, a small shell process that holds the read
// end of a pipe whose write end only the test process has. However the test
// process ends (Stop, panic, timeout of "go test", SIGKILL), the kernel closes
// the pipe, and the guardian removes the containers, ends the daemon, unmounts
// and deletes the tree. Stop closes the pipe and waits, so that the way out of
// a crash is the way every test goes.
//
// Pdeathsig would be the alternative. It was not taken: it fires when the
// *thread* that forked ends, which the Go runtime may do at any time unless a
// goroutine stays locked to it, and it reaches dockerd alone, not the
// containers, their shims and the mounts.
package dockertest
