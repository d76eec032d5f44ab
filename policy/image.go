package policy

import (
	"github.com/distribution/reference"

	"github.com/claudefs/claudefs/internal/identity"
)

// spellings are the ways to write a container's image; a glob has to match one of them: as the operator wrote it, its
// id, and its name short (nginx) and in full (docker.io/library/nginx), each with its tag or digest and without. So a
// glob without a tag means any tag.
func spellings(f *identity.Facts) []string {
	out := []string{f.Image}
	if f.ImageID != "" {
		out = append(out, f.ImageID)
	}
	n, err := reference.ParseDockerRef(f.Image)
	if err != nil {
		return out
	}
	return append(out, n.String(), reference.FamiliarString(n), n.Name(), reference.FamiliarName(n))
}
