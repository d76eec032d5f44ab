package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/internal/identity"
)

// Summary is what a runtime says of a container in a list. It has no labels: a list does not tell the operator's from
// the image's, which Inspect does.
type Summary struct {
	ID      string
	Name    string // without the leading slash
	Image   string
	ImageID string
	Runtime string // as identity.Facts.Runtime
	Host    string // the address of the runtime's socket
	Running bool
	Mounts  []identity.Mount
}

// list returns the running containers, or with all also those that are not.
func (d *Docker) list(ctx context.Context, all bool) ([]Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cs, err := d.api.ContainerList(ctx, container.ListOptions{All: all})
	if err != nil {
		return nil, fmt.Errorf("list containers at %s: %w", d.host, err)
	}
	engine, err := d.engineName(ctx)
	if err != nil {
		return nil, err
	}
	var out []Summary
	for _, c := range cs {
		out = append(out, d.summaryOf(&c, engine))
	}
	return out, nil
}

func (d *Docker) summaryOf(c *container.Summary, engine string) Summary {
	s := Summary{
		ID: c.ID, Image: c.Image, ImageID: c.ImageID, Runtime: engine, Host: d.host,
		Running: c.State == container.StateRunning,
	}
	for _, n := range c.Names {
		// Links, a feature of the past, give a container further names below other containers'.
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			s.Name = n
			break
		}
	}
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, identity.Mount{Type: string(m.Type), Source: m.Source, Destination: m.Destination})
	}
	return s
}

// List returns the running containers of all runtimes, in the order of the runtimes. A runtime that does not answer
// within callTimeout is an error, beside which the list of the others is returned.
func (c *Cache) List(ctx context.Context) ([]Summary, error) { return c.list(ctx, false) }

func (c *Cache) list(ctx context.Context, all bool) ([]Summary, error) {
	lists, errs := make([][]Summary, len(c.runtimes)), make([]error, len(c.runtimes))
	var questions errgroup.Group
	for i, r := range c.runtimes {
		questions.Go(func() error {
			lists[i], errs[i] = r.list(ctx, all)
			return nil
		})
	}
	_ = questions.Wait() // they give no error: one that is down does not end the others
	var out []Summary
	seen := map[string]bool{}
	for _, l := range lists {
		for _, s := range l {
			// One socket can be configured by two paths. As for Inspect, the first one's word holds.
			if !seen[s.ID] {
				seen[s.ID] = true
				out = append(out, s)
			}
		}
	}
	return out, errors.Join(errs...)
}
