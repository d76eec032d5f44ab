// Package claudeclient drives the real Claude Code client in tests.
//
// [Install] fetches one pinned version. The caller decides where the client
// runs: every function takes a prepared *exec.Cmd, so it may be wrapped in
// `docker exec -i`, or come from [Sandbox.Command], which gives the client a
// network namespace with nothing but loopback. [Once] makes a single
// `claude -p` run; [Session] is a long-lived process that is prompted again and
// again, as a person at a terminal would.
//
// The client must never run where it can reach the real servers.
package claudeclient
