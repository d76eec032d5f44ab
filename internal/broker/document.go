package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/claudefs/claudefs/vault"
)

// documentVersion is the format of a tree's sealed document.
const documentVersion = 1

// document is what a tree's clients changed about their credential file, beyond the account's login.
type document struct {
	Version int `json:"version"`
	// Account is the login that was made inside the tree, "" when there was none.
	Account vault.AccountID `json:"account,omitempty"`
	// LoggedOut: a client logged the tree out. Removed: by deleting the file, so that it is not there.
	LoggedOut bool `json:"logged_out,omitempty"`
	Removed   bool `json:"removed,omitempty"`
	// Others are the file's other top-level members, a JSON object.
	Others json.RawMessage `json:"others,omitempty"`
	// Generation counts changes, ChangedAt is the time of the last one in unix milliseconds, and Seen the generation of
	// the account's token then.
	Generation uint64 `json:"generation"`
	ChangedAt  int64  `json:"changed_at"`
	Seen       uint64 `json:"seen,omitempty"`
	// Published are the last writings that changed the document: one of them that comes again was answered to nobody.
	Published []string `json:"published,omitempty"`
}

// maxPublished bounds how many writings are remembered: more than a tree can have under way.
const maxPublished = 64

// published notes a writing that changes the document.
func (d *document) published(id string) {
	if id == "" {
		return
	}
	d.Published = append(slices.Clone(d.Published), id)
	d.Published = d.Published[max(0, len(d.Published)-maxPublished):]
}

// moment is what readers see when a change begins: the file's time, and the generation of its token.
type moment struct {
	at         time.Time
	generation uint64
}

func (d *document) changed() time.Time { return time.UnixMilli(d.ChangedAt) }

// document returns the tree's document, a copy. While the vault is locked it is the copy in memory, or an empty one.
func (b *Broker) document(t *tree) (*document, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doc != nil {
		d := *t.doc
		return &d, nil
	}
	body, version, err := b.cfg.Store.LoadDocument(t.name)
	d := &document{Version: documentVersion, ChangedAt: b.born(t.name).UnixMilli()}
	switch {
	case errors.Is(err, vault.ErrNotFound):
	case errors.Is(err, vault.ErrLocked):
		return d, nil
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(body.Reveal(), d); err != nil || d.Version != documentVersion {
			return nil, fmt.Errorf("read document of tree %s: %w", t.name, vault.ErrCorrupt)
		}
	}
	t.doc, t.version = d, version
	c := *d
	return &c, nil
}

// documented reports whether the tree's document is known.
func (t *tree) documented() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doc != nil
}

// change edits the tree's document durably and gives it a new modification time after the one shown until now.
func (b *Broker) change(t *tree, shown moment, edit func(*document)) error {
	if _, err := b.document(t); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doc == nil {
		return fmt.Errorf("change document of tree %s: %w", t.name, vault.ErrLocked)
	}
	d := *t.doc
	edit(&d)
	d.Generation++
	d.ChangedAt = max(time.Now().UnixMilli(), shown.at.UnixMilli()+1)
	d.Seen = shown.generation
	body, err := json.Marshal(&d)
	if err != nil {
		return fmt.Errorf("change document of tree %s: %w", t.name, err)
	}
	version, err := b.cfg.Store.StoreDocument(t.name, vault.NewSecret(body), t.version)
	if err != nil {
		return fmt.Errorf("change document of tree %s: %w", t.name, err)
	}
	t.doc, t.version = &d, version
	return nil
}

// born is a time before any change of the tree that is the same after a restart.
func (b *Broker) born(tree string) time.Time {
	if st, err := os.Stat(b.seedPath(tree)); err == nil {
		return st.ModTime()
	}
	return time.UnixMilli(1)
}
