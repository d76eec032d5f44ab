package serve

import (
	"sync/atomic"
	"time"
)

// pace counts the requests under way. Those that began between two looks of the watchdog are counted together, so a
// request costs two additions.
type pace struct {
	closed atomic.Pointer[chan struct{}] // set while no request may begin; closed to let them go on
	era    atomic.Uint64
	count  [4]atomic.Int64 // by the era in which they began, modulo 4
}

// begin counts a request and returns what end needs. While the server pauses it waits.
func (p *pace) begin() int {
	for {
		i := int(p.era.Load() % 4)
		p.count[i].Add(1)
		wait := p.closed.Load()
		if wait == nil {
			return i
		}
		p.count[i].Add(-1)
		<-*wait
	}
}

func (p *pace) end(i int) { p.count[i].Add(-1) }

func (p *pace) busy() bool {
	for i := range p.count {
		if p.count[i].Load() > 0 {
			return true
		}
	}
	return false
}

// pause lets no request begin and waits until none is under way or done ends.
func (p *pace) pause(done <-chan struct{}) {
	wait := make(chan struct{})
	p.closed.Store(&wait)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.busy() {
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// resume ends a pause.
func (p *pace) resume() {
	if wait := p.closed.Swap(nil); wait != nil {
		close(*wait)
	}
}

// stuck begins a new era and reports whether a request of the last but one, or an older one, has not ended.
func (p *pace) stuck() bool {
	now := p.era.Load() + 1
	// The place of the new era is that of an era four ago; it may still hold one that hangs.
	hung := p.count[now%4].Load() > 0 || p.count[(now+1)%4].Load() > 0 || p.count[(now+2)%4].Load() > 0
	p.era.Store(now)
	return hung
}
