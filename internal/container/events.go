package container

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// followed are the events after which what was known of a container may be wrong. Podman calls two of them otherwise,
// and gives none for names that it does not know.
var followed = []events.Action{
	events.ActionStart, events.ActionDie, events.ActionRename, events.ActionDestroy, "died", "remove",
}

// Events calls changed with the id of every container that starts, dies, is renamed or removed, and ready once the
// stream is up. It returns when the stream ends.
func (d *Docker) Events(ctx context.Context, ready func(), changed func(id string)) error {
	if err := d.greet(ctx); err != nil {
		return err
	}
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, e := range followed {
		args.Add("event", string(e))
	}
	// The runtime answers the request before it takes note of events for it. Those of the moments between are sent
	// after all when it is asked for events from before; what comes twice only drops an entry twice.
	since := strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10)
	msgs, errs := d.api.Events(ctx, events.ListOptions{Since: since, Filters: args})
	select {
	case err := <-errs: // there is no stream
		return fmt.Errorf("events of runtime %s: %w", d.host, err)
	default:
		ready()
	}
	for {
		select {
		case m := <-msgs:
			changed(m.Actor.ID)
		case err := <-errs:
			return fmt.Errorf("events of runtime %s: %w", d.host, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// greet asks who serves the socket now, before a stream begins. It has to be a question that settles the API's version:
// the client reads that version for a stream without a lock, while another question may be settling it.
func (d *Docker) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d.forgetEngine()
	_, err := d.engineName(ctx)
	return err
}
