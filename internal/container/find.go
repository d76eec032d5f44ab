package container

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/claudefs/claudefs/internal/identity"
)

// ErrAmbiguous: several containers answer to a name or to the beginning of an id.
var ErrAmbiguous = errors.New("several containers are meant")

var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Find returns the container that an operator means by a name, an id or the beginning of an id, whether it runs or not.
// ErrAmbiguous says that there are several over all runtimes; ErrNoContainer that there is none, and that every runtime
// said so. What is found while another runtime is down is returned: an id is unique, and whether the other has a
// container of the same name nobody can say.
//
// It takes at most callTimeout, and is for people's questions. A decision takes the id that the kernel tells, and Inspect.
func (c *Cache) Find(ctx context.Context, nameOrID string) (*identity.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, err := c.resolve(ctx, nameOrID)
	if err != nil {
		return nil, fmt.Errorf("find container %q: %w", nameOrID, err)
	}
	f, err := c.Inspect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find container %q: %w", nameOrID, err)
	}
	return f, nil
}

// resolve returns the full id. What looks like one is never taken for a name, which can be any container's.
func (c *Cache) resolve(ctx context.Context, nameOrID string) (string, error) {
	if fullID.MatchString(nameOrID) {
		return nameOrID, nil
	}
	all, down := c.list(ctx, true)
	var found []Summary
	for _, s := range all {
		if s.answersTo(strings.TrimPrefix(nameOrID, "/")) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) > 1:
		return "", fmt.Errorf("%w: %s; give a full id", ErrAmbiguous, describe(found))
	case len(found) == 1:
		return found[0].ID, nil
	case down != nil:
		// Fail closed: the runtime that is down may be the one that knows it.
		return "", down
	}
	return "", identity.ErrNoContainer
}

// answersTo gives a name no precedence over the beginning of an id, as Docker does: a container's name is chosen by
// whoever starts it, and could take the place of another one's short id.
func (s *Summary) answersTo(nameOrID string) bool {
	return nameOrID != "" && (s.Name == nameOrID || strings.HasPrefix(s.ID, nameOrID))
}

func describe(found []Summary) string {
	const most = 5
	var words []string
	for _, s := range found[:min(most, len(found))] {
		words = append(words, fmt.Sprintf("%s %s (%s at %s)", s.Name, s.ID, s.Runtime, s.Host))
	}
	if n := len(found) - most; n > 0 {
		words = append(words, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(words, ", ")
}
