package broker

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited is how many readers are counted before those that have been quiet are forgotten.
const maxLimited = 1024

// limits counts reads for rules with reads_per_minute. What was counted ends with the daemon.
type limits struct {
	mu      sync.Mutex
	readers map[limited]*rate.Limiter
}

// limited is a reader of a tree, by container or host uid, under one bound.
type limited struct {
	tree, reader string
	perMinute    int
}

// exceeded counts a read and says why it is one too many, "" when it is not.
func (l *limits) exceeded(k limited) string {
	if k.perMinute == 0 {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.readers[k]
	if r == nil {
		l.forget()
		r = rate.NewLimiter(rate.Every(time.Minute/time.Duration(k.perMinute)), k.perMinute)
		l.readers[k] = r
	}
	if r.Allow() {
		return ""
	}
	return fmt.Sprintf("more than %d reads in a minute", k.perMinute)
}

// forget makes room: a reader with its full count left is as good as a new one.
func (l *limits) forget() {
	if l.readers == nil {
		l.readers = map[limited]*rate.Limiter{}
	}
	if len(l.readers) < maxLimited {
		return
	}
	for k, r := range l.readers {
		if r.Tokens() >= float64(k.perMinute) {
			delete(l.readers, k)
		}
	}
}
