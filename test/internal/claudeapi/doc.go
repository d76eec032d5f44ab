// Package claudeapi is a double of the servers which the Claude Code client
// talks to: api.anthropic.com, the OAuth token endpoint and their neighbours.
//
// The double serves the client's production host names over TLS with a private
// CA, so the client under test runs with its production URLs. It is reached
// inside a network namespace that has nothing but loopback:
//
//	d, err := claudeapi.New(claudeapi.Config{Verdict: verdict})
//	closer, err := d.ListenInNetns(containerPID, "container-a")
//
// The client needs [Double.CAPEM] in a file named by NODE_EXTRA_CA_CERTS and
// [Double.HostsFile] as its /etc/hosts. Every answer to a prompt is
// [Echo](prompt, token), which ties what the client printed to the access token
// it presented. Every request is recorded; a request that a well-behaved client
// must not make carries a Violation.
package claudeapi
