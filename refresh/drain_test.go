package refresh_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
)

// Drain waits for the grant under way, and none begins after it: the token in hand is served instead.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.srv.SetFault(refreshtest.Fault{Delay: 3 * time.Second})
		begun := time.Now()
		_, err := e.r.Renew(context.Background(), "work", 1)
		wantErr(t, err, refresh.ErrSlow)
		e.r.Drain()
		if took := time.Since(begun); took < 3*time.Second {
			t.Errorf("Drain returned after %v, before the grant's end", took)
		}
		e.wantPosts(t, 1)
		c, err := e.r.Current("work")
		if err != nil || c.Generation != 2 {
			t.Fatalf("after Drain: %+v %v", c, err)
		}
		_, err = e.r.Renew(context.Background(), "work", c.Generation)
		wantErr(t, err, refresh.ErrClosed)
		_, err = e.r.Force(context.Background(), "work")
		wantErr(t, err, refresh.ErrClosed)
		e.wantPosts(t, 1)
	})
}

// A renewal that a reader asked for and that failed is tried again by Run, although the token is not due.
func TestRunGoesOnWithARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		stop := start(t, e.r)
		defer stop()
		e.srv.SetFault(refreshtest.Fault{Status: 429, RetryAfter: "1"})
		if _, err := e.r.Renew(context.Background(), "work", 1); err == nil {
			t.Fatal("renewed although throttled")
		}
		e.srv.SetFault(refreshtest.Fault{})
		time.Sleep(10 * time.Second)
		if c, err := e.r.Current("work"); err != nil || c.Generation != 2 {
			t.Errorf("10 s later: %+v %v", c, err)
		}
		time.Sleep(time.Minute)
		if got := e.srv.Grants(); got != 1 {
			t.Errorf("%d grants for one wish", got)
		}
	})
}
