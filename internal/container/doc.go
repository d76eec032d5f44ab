// Package container asks container runtimes what a container is: name, image, labels, mounts, powers. It speaks
// Docker's API, which Podman serves too.
//
// Every call is bounded. Answers are cached while the runtime's event stream is up, which drops what changed; when
// the stream is down every question goes to the runtime, so a runtime that is down is seen at once.
package container
