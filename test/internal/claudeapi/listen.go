package claudeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// ListenInNetns serves the double on 127.0.0.1:443 inside the network namespace
// of process pid, from this process; label becomes [Request.Client]. It brings
// lo up if need be. It refuses a namespace from which more than loopback can be
// reached. The caller needs CAP_SYS_ADMIN and CAP_NET_BIND_SERVICE there.
// Closing the result ends the listener and its connections.
func (d *Double) ListenInNetns(pid int, label string) (io.Closer, error) {
	ln, err := listenInNetns(pid)
	if err != nil {
		return nil, err
	}
	l := &listener{double: d, done: make(chan struct{})}
	l.server = &http.Server{
		Handler:           d.record(d.mux),
		TLSConfig:         d.tlsConfig(),
		ReadHeaderTimeout: 30 * time.Second,
		// A handshake that breaks off is the client's business.
		ErrorLog:    log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return withLabel(context.Background(), label) },
	}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.listeners[l] = struct{}{}
	}
	d.mu.Unlock()
	if closed {
		return nil, errors.Join(errors.New("listen: double is closed"), ln.Close())
	}
	go l.serve(ln)
	return l, nil
}

// listener is one open port of a Double.
type listener struct {
	double *Double
	server *http.Server
	done   chan struct{}
	err    error // of Serve; read after done
	once   sync.Once
}

func (l *listener) serve(ln net.Listener) {
	defer close(l.done)
	if err := l.server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		l.err = fmt.Errorf("serve: %w", err)
	}
}

// Close ends the listener and its connections and waits for the serving
// goroutine. Further calls do nothing.
func (l *listener) Close() error {
	var err error
	l.once.Do(func() {
		err = l.server.Close()
		<-l.done
		l.double.mu.Lock()
		delete(l.double.listeners, l)
		l.double.mu.Unlock()
		err = errors.Join(err, l.err)
	})
	return err
}
