package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// credential is the credential file, which two workers rewrite and two read.
// The writers take turns, as the file's real writers do with a lock directory.
type credential struct {
	plain bool // readers must not meet a rewrite in place

	mu    sync.RWMutex
	next  int64
	acked map[string]int64 // by member, the number last written to the end
}

// entry is the member that a writer sets in the file.
type entry struct {
	N     int64  `json:"n"`
	Other string `json:"other,omitempty"`
}

// document is the file as a writer sees it: members it does not know stay as
// they were read, byte for byte.
type document map[string]json.RawMessage

// credentialWorkers returns the workers on the credential file.
func credentialWorkers(plain bool) []worker {
	// Numbers begin at the time of day, so that none is left from an earlier run.
	c := &credential{plain: plain, next: time.Now().UnixMilli(), acked: map[string]int64{}}
	byRename := func(r *round) { c.update(r, "mcpOAuth", "keep", renameOver) }
	inPlace := func(r *round) { c.update(r, "pluginSecrets", "", rewrite) }
	return []worker{
		{name: "cred-read", turn: func(r *round) { c.read(r, 64<<10, 0) }},
		{name: "cred-slow-read", turn: func(r *round) { c.read(r, 64, time.Millisecond) }},
		{name: "cred-tmp-rename", turn: byRename, finish: c.recheck},
		{name: "cred-inplace", turn: inPlace, finish: c.recheck},
	}
}

// credentialPath is where the file is.
func credentialPath(r *round) string {
	return r.path(".credentials.json")
}

// read reads the file as a program does that only wants the token.
func (c *credential) read(r *round, chunk int, nap time.Duration) {
	if c.plain {
		c.mu.RLock()
		defer c.mu.RUnlock()
	}
	readDocument(r, chunk, nap)
}

// readDocument reads the file, which has to be a whole one: as long as it was
// said to be right after it was opened, and with a token in it.
func readDocument(r *round, chunk int, nap time.Duration) document {
	fd := r.open(credentialPath(r), unix.O_RDONLY, 0)
	st := r.fstat(fd)
	data := r.read(fd, chunk, nap)
	r.close(fd)
	r.check(st.Size == int64(len(data)), "read", "%d bytes after a stat size of %d", len(data), st.Size)
	doc, err := parseDocument(data)
	r.check(err == nil, "parse", "%v", err)
	return doc
}

// parseDocument parses a credential file and checks that it has a token.
func parseDocument(data []byte) (document, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	var login struct {
		AccessToken string `json:"accessToken"`
	}
	if err := json.Unmarshal(doc["claudeAiOauth"], &login); err != nil {
		return nil, fmt.Errorf("claudeAiOauth: %w", err)
	}
	if login.AccessToken == "" {
		return nil, errors.New("no claudeAiOauth.accessToken")
	}
	return doc, nil
}

// update reads the file, sets one member, has save write it back, and reads it
// again.
func (c *credential) update(r *round, member, other string, save func(*round, []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	doc := c.load(r)
	if !r.ok() {
		return
	}
	c.next++
	data, err := doc.with(member, entry{N: c.next, Other: other})
	r.check(err == nil, "format", "%v", err)
	save(r, data)
	if !r.ok() {
		clear(c.acked) // the file may hold the old content or the new
		return
	}
	c.acked[member] = c.next
	c.load(r)
}

// load reads the file under the lock. A member that is not as it was last
// written is lost, which is counted once.
func (c *credential) load(r *round) document {
	doc := readDocument(r, 64<<10, 0)
	if !r.ok() {
		return nil
	}
	for member, want := range c.acked {
		var got entry
		err := json.Unmarshal(doc[member], &got)
		whole := member != "mcpOAuth" || got.Other == "keep"
		if err != nil || got.N != want || !whole {
			delete(c.acked, member)
			r.again().lose("read back", "%s is not as written", member)
			r.bad = true
		}
	}
	return doc
}

// recheck looks at the file a last time.
func (c *credential) recheck(r *round) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load(r)
}

// with formats the document with one member set to e.
func (d document) with(member string, e entry) ([]byte, error) {
	value, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	d[member] = value
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // JSON.stringify does not either
	err = enc.Encode(d)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// renameOver saves the file as Claude Code 2.1 does.
func renameOver(r *round, data []byte) {
	path := credentialPath(r)
	tmp := fmt.Sprintf("%s.tmp.%08x", path, rand.Uint32())
	fd := r.open(tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	r.write(fd, data[:len(data)/2])
	r.write(fd, data[len(data)/2:])
	r.fsync(fd)
	r.close(fd)
	r.rename(tmp, path)
	r.chmod(path, 0o600)
	if !r.ok() {
		_ = unix.Unlink(tmp) // the failure is counted already
	}
}

// rewrite saves the file as Claude Code 2.0 does.
func rewrite(r *round, data []byte) {
	fd := r.open(credentialPath(r), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	r.write(fd, data[:len(data)/2])
	r.write(fd, data[len(data)/2:])
	r.close(fd)
}
