package broker

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"sync"
	"time"

	"github.com/claudefs/claudefs/internal/endpoint"
	"github.com/claudefs/claudefs/internal/guarded"
	"github.com/claudefs/claudefs/internal/settings"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// settingsName is the file that a rule's settings are about. The others of settings.Files are the tree's own alone.
const settingsName = "settings.json"

// Show implements fs.Settings. What the tree wrote is shown as it is unless there is something to take out or to add.
func (b *Broker) Show(tree, name string, own []byte) ([]byte, error) {
	made, allowed := b.made(tree, name)
	base, baseErr := b.baseOf(made)
	if baseErr != nil {
		return unusable("the host's base of it", baseErr), nil
	}
	key := b.delivers(tree, name)
	plain := base.Empty() && !key // the file is the tree's own alone
	if own == nil && plain {
		return nil, nil
	}
	if made == policy.SettingsReadonly {
		b.tree(tree).hides(name, nil)
		return finish(base, key), nil
	}
	b.parsing.Lock()
	defer b.parsing.Unlock()
	doc, err := settings.Parse(own)
	if err != nil && plain {
		// Fail closed: what is not understood here may be understood by a client, which takes UTF-16 or the last of two
		// keys. It is told instead what is wrong; to it, that is a file with a mistake, as the tree's own is.
		return unusable("it", err), nil
	}
	if err != nil {
		return finish(base, key), nil // Fail closed: so the host's permission rules stay in force
	}
	doc, removed := settings.Filter(doc, allowed)
	b.tree(tree).hides(name, removed)
	if len(removed) == 0 && plain {
		return own, nil
	}
	return finish(settings.Merge(base, doc), key), nil
}

// hides notes what readers of a file are not shown, for status.
func (t *tree) hides(name string, removed []settings.Removed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(removed) == 0 {
		delete(t.hidden, name)
		return
	}
	if t.hidden == nil {
		t.hidden = map[string][]settings.Removed{}
	}
	t.hidden[name] = removed
}

// finish is the file's text, with the way to the tree's API key if it has one.
func finish(d *settings.Document, key bool) []byte {
	if key {
		d = settings.Deliver(d)
	}
	return d.Bytes()
}

// delivers reports whether a file tells the client where the tree's API key is.
func (b *Broker) delivers(tree, name string) bool {
	_, _, ok := b.policy.Load().APIKey(tree)
	return ok && name == settingsName
}

// unusable is shown in place of a file that cannot be read: a text that is JSON in no dialect.
func unusable(what string, err error) []byte {
	return fmt.Appendf(nil, "claudefs shows nothing of this file: %s is %v. Write it anew, or remove it.\n", what, err)
}

// Keep implements fs.Settings: the base, which the client was shown and writes back, does not become the tree's own.
// The keys that are not shown are kept: a rule may allow them later.
func (b *Broker) Keep(tree, name string, written []byte) ([]byte, error) {
	made, _ := b.made(tree, name)
	base, err := b.baseOf(made)
	key := b.delivers(tree, name)
	if err != nil || base.Empty() && !key {
		return written, nil //nolint:nilerr // without a base there is nothing of it in the file
	}
	b.parsing.Lock()
	defer b.parsing.Unlock()
	doc, err := settings.Parse(written)
	if err != nil {
		return written, nil //nolint:nilerr // it is shown as what it is
	}
	if key {
		var secret vault.Secret
		if c, err := b.expectedKey(tree); err == nil {
			secret = c.AccessToken
		}
		doc, _ = settings.Withdraw(doc, secret)
	}
	return settings.Split(doc, base).Bytes(), nil
}

// Locked implements fs.Settings.
func (b *Broker) Locked(tree, name string) bool {
	made, _ := b.made(tree, name)
	return made == policy.SettingsReadonly
}

// made is what a file of the tree is made of.
func (b *Broker) made(tree, name string) (policy.Settings, []endpoint.Endpoint) {
	made, allowed := b.policy.Load().Settings(tree)
	if name != settingsName {
		made = policy.SettingsPrivate
	}
	return made, allowed
}

// baseOf is the base as trees are shown it, without a setting where they are shown none.
func (b *Broker) baseOf(made policy.Settings) (*settings.Document, error) {
	if made == policy.SettingsPrivate || b.cfg.SettingsBase == "" {
		return &settings.Document{}, nil
	}
	return b.base.read(b.cfg.SettingsBase)
}

// settingsBase is the host's base as it was read last. Its mu is held over a look at one file of the host's own.
type settingsBase struct {
	mu    sync.Mutex
	state fileState
	doc   *settings.Document
	err   error
}

// fileState tells states of a file apart.
type fileState struct {
	mtime time.Time
	size  int64
}

// read returns the base, without credentials and places of the host's.
func (s *settingsBase) read(path string) (*settings.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := os.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		s.state, s.doc, s.err = fileState{}, &settings.Document{}, nil
		return s.doc, nil
	}
	if err != nil {
		return nil, errBase
	}
	if now := (fileState{st.ModTime(), st.Size()}); s.doc == nil && s.err == nil || now != s.state {
		s.state = now
		s.doc, s.err = readBase(path)
	}
	return s.doc, s.err
}

// What a tree learns of a base that the daemon cannot read, or does not.
var (
	errBase        = errors.New("not readable by the daemon")
	errBaseExposed = errors.New("not the operator's word, since others may change it: see claudefs doctor")
)

func readBase(path string) (*settings.Document, error) {
	text, err := guarded.ReadFile(path, settings.MaxSize+1)
	if errors.Is(err, guarded.ErrExposed) {
		return nil, errBaseExposed // Fail closed: it runs programs in all trees
	}
	if err != nil {
		return nil, errBase
	}
	doc, err := settings.Parse(text)
	if err != nil {
		return nil, err
	}
	doc, _ = settings.FilterBase(doc)
	return doc, nil
}
