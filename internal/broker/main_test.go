package broker_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mountpoint = "/run/claudefs-test/mnt"

// attestor names callers as the test says.
type attestor struct {
	mu        sync.Mutex
	subjects  map[uint32]*identity.Subject
	dead      map[uint32]bool // witnesses by pid
	err       error           // of Resolve
	forged    error           // of ConfirmInit
	unvouched error           // of Vouched
	gone      uint32          // a first process that is no more
	blind     error           // of Witness
	asked     int             // calls of Resolve
}

func (a *attestor) Resolve(_ context.Context, c identity.Caller) (*identity.Subject, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	s, ok := a.subjects[c.TID]
	if a.err != nil || !ok {
		return nil, errors.Join(a.err, identity.ErrNoCaller)
	}
	out := *s
	out.Caller = c
	return &out, nil
}

func (a *attestor) ConfirmInit(_ *identity.Subject, init uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone == init && init != 0 {
		return fmt.Errorf("%w: container's first process is gone", identity.ErrDenied)
	}
	return a.forged
}

// FirstOf finds every container's, if its number is that of the subject's namespace.
func (a *attestor) FirstOf(s *identity.Subject, f *identity.Facts) (identity.Process, error) {
	if s.PidNamespace != uint64(f.InitPID) {
		return identity.Process{}, errors.New("not the first process")
	}
	return identity.Process{PID: f.InitPID, Start: 1}, a.Vouched(f)
}

func (a *attestor) Vouched(*identity.Facts) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unvouched
}

// Witness is the process that the runtime named, else the caller.
func (a *attestor) Witness(s *identity.Subject, init uint32) (identity.Process, error) {
	return identity.Process{PID: cmp.Or(init, s.Caller.TID), Start: 1}, a.blind
}

func (a *attestor) Alive(p identity.Process) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.dead[p.PID]
}

func (a *attestor) end(pid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead[pid] = true
}

// engine is a container runtime.
type engine struct {
	facts map[string]*identity.Facts
	late  map[string]*identity.Facts // what it says when it is asked anew
	err   error
}

func (e *engine) Inspect(ctx context.Context, id string) (*identity.Facts, error) {
	if err := errors.Join(e.err, ctx.Err()); err != nil {
		return nil, err
	}
	f, ok := e.facts[id]
	if !ok {
		return nil, identity.ErrNoContainer
	}
	return f, nil
}

func (e *engine) Having(ctx context.Context, first func(*identity.Facts) (identity.Process, error)) (*identity.Facts, error) {
	if err := errors.Join(e.err, ctx.Err()); err != nil {
		return nil, err
	}
	for _, f := range e.facts {
		if _, err := first(f); err == nil {
			return f, nil
		}
	}
	return nil, identity.ErrNoContainer
}

func (e *engine) Forget(id string) {
	if f, ok := e.late[id]; ok {
		e.facts[id] = f
	}
}

// recorder is the audit log.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
	before func(audit.Event)
}

func (r *recorder) Record(e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before != nil {
		r.before(e)
	}
	if r.err != nil {
		return r.err
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// since returns what was recorded, and forgets it.
func (r *recorder) since() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	return out
}

// last returns the only record since the last look.
func (r *recorder) last(t testing.TB) audit.Event {
	t.Helper()
	all := r.since()
	if len(all) != 1 {
		t.Fatalf("got %d audit records, want 1: %+v", len(all), all)
	}
	return all[0]
}

// world is a broker over a real vault and a real refresher.
type world struct {
	*broker.Broker
	srv    *refreshtest.Server
	vault  *vault.Vault
	tokens *refresh.Refresher
	att    *attestor
	engine *engine
	log    *recorder
	cfg    broker.Config
	tid    uint32
}

func newWorld(t testing.TB, policyText string, change ...func(*broker.Config)) *world {
	t.Helper()
	w := &world{
		srv: refreshtest.New(refreshtest.Config{}), log: &recorder{}, tid: 1000,
		att:    &attestor{subjects: map[uint32]*identity.Subject{}, dead: map[uint32]bool{}},
		engine: &engine{facts: map[string]*identity.Facts{}},
	}
	dir := t.TempDir()
	w.vault = newVault(t, dir+"/vault")
	var err error
	if w.tokens, err = refresh.New(refresh.Config{
		Store: w.vault, TokenURL: "https://as.test/token", ClientID: "c", Transport: w.srv.Transport(),
	}); err != nil {
		t.Fatal(err)
	}
	w.cfg = broker.Config{
		Policy: parse(t, policyText), Attestor: w.att, Runtime: w.engine, Tokens: w.tokens, Store: w.vault, Audit: w.log,
		StateDir: dir + "/state", Mountpoint: mountpoint,
	}
	for _, f := range change {
		f(&w.cfg)
	}
	w.restart(t)
	return w
}

// restart is a new daemon on the same vault. What the old one remembered is gone.
func (w *world) restart(t testing.TB) {
	t.Helper()
	b, err := broker.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Broker = b
}

func newVault(t testing.TB, dir string) *vault.Vault {
	t.Helper()
	v, _, err := vault.Create(t.Context(), vault.Config{
		Dir: dir, ScryptWorkFactor: 10,
		Passphrase: func(context.Context) (vault.Secret, error) { return secret("correct horse"), nil },
	}, vault.BackendPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

// parse takes a built-in policy's name, or the rules of a policy.
func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	if b, ok := policy.Builtin(text); ok {
		text = string(b)
	} else {
		text = "version: 1\nrules:\n" + text
	}
	p, err := policy.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// login puts a fresh login into the vault, as an operator does.
func (w *world) login(t testing.TB, id vault.AccountID) refreshtest.Login {
	t.Helper()
	l := w.srv.NewLogin()
	a := accounts.Accounts{Vault: w.vault, Tokens: w.tokens, Audit: &recorder{}}
	if _, err := a.Import(t.Context(), id, file(t, l, nil)); err != nil {
		t.Fatal(err)
	}
	return l
}

// edit changes an account's record behind everybody's back.
func (w *world) edit(t testing.TB, id vault.AccountID, f func(*vault.Credential)) {
	t.Helper()
	c, version, err := w.vault.Load(id)
	if err == nil {
		f(c)
		_, err = w.vault.Store(c, version)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func expire(c *vault.Credential) {
	c.IssuedAt, c.ExpiresAt = time.Now().Add(-9*time.Hour), time.Now().Add(-time.Hour)
}

// rotate has the account's token renewed.
func (w *world) rotate(t testing.TB, id vault.AccountID) {
	t.Helper()
	c, err := w.tokens.Current(id)
	if err == nil {
		_, err = w.tokens.Renew(t.Context(), id, c.Generation)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) generation(t testing.TB, id vault.AccountID) uint64 {
	t.Helper()
	c, _, err := w.vault.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	return c.Generation
}

// container starts a container that was given the tree and returns a caller in it.
func (w *world) container(name, tree string) identity.Caller {
	w.tid++
	id := strings.Repeat(fmt.Sprintf("%04x", w.tid), 16)
	w.att.subjects[w.tid] = &identity.Subject{Container: id, Runtime: "docker", Roots: []string{"/" + tree}, Exe: "/usr/bin/node"}
	w.engine.facts[id] = &identity.Facts{
		ID: id, Name: name, Image: "acme/" + name, InitPID: w.tid, Labels: map[string]string{},
		Mounts: []identity.Mount{{Type: "bind", Source: mountpoint + "/" + tree, Destination: "/root/.claude"}},
	}
	return identity.Caller{TID: w.tid}
}

func (w *world) subject(c identity.Caller) *identity.Subject { return w.att.subjects[c.TID] }
func (w *world) facts(c identity.Caller) *identity.Facts {
	return w.engine.facts[w.subject(c).Container]
}

// host returns a process in no container.
func (w *world) host(uid uint32) identity.Caller {
	w.tid++
	w.att.subjects[w.tid] = &identity.Subject{Host: true, HostRoot: true, Exe: "/usr/bin/cat"}
	return identity.Caller{TID: w.tid, UID: uid, GID: uid}
}

func (w *world) open(t testing.TB, c identity.Caller, tree string) *fs.Snapshot {
	t.Helper()
	s, err := w.Open(t.Context(), c, tree)
	if err != nil {
		t.Fatalf("open %s: %v", tree, err)
	}
	return s
}

// shown is the credential file as a reader takes it.
type shown struct {
	access, refresh string
	others          string
	loggedIn        bool
}

func (w *world) read(t testing.TB, c identity.Caller, tree string) shown {
	t.Helper()
	return look(t, w.open(t, c, tree).Content)
}

func look(t testing.TB, b []byte) shown {
	t.Helper()
	f, err := credfile.Parse(b)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	s := shown{others: string(f.Others.Reveal()), loggedIn: f.Login != nil}
	if f.Login != nil {
		s.access, s.refresh = string(f.Login.AccessToken.Reveal()), string(f.Login.RefreshToken.Reveal())
	}
	return s
}

func (w *world) write(t testing.TB, c identity.Caller, tree string) fs.Change {
	t.Helper()
	ch, err := w.Write(t.Context(), c, tree)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// publish has the client replace the file.
func (w *world) publish(t testing.TB, c identity.Caller, tree string, content []byte) error {
	t.Helper()
	return w.write(t, c, tree).Publish(t.Context(), freshID(), content)
}

// file is a login as a client writes it, with other members.
func file(t testing.TB, l refreshtest.Login, others map[string]any) []byte {
	t.Helper()
	f := l.File()
	maps.Copy(f, others)
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// with is a file that a client read, written again with other members.
func with(t testing.TB, content []byte, others string) []byte {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(content, &m); err != nil {
		t.Fatal(err)
	}
	m["mcpOAuth"] = json.RawMessage(others)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the test needs root")
	}
	t.Skip("the test needs root")
}

// errAny stands for an error without a name of its own.
var errAny = errors.New("some error")

func mkdir(dir string) error        { return os.Mkdir(dir, 0o755) }
func symlink(to, name string) error { return os.Symlink(to, name) }

// forget gives the world a refresher that remembers no token, as a daemon that starts has.
func (w *world) forget(t testing.TB) {
	t.Helper()
	r, err := refresh.New(refresh.Config{Store: w.vault, TokenURL: "https://as.test/token", ClientID: "c", Transport: w.srv.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	w.tokens, w.cfg.Tokens = r, r
	w.restart(t)
}

// settle waits for the grant of the default account that is under way.
func (w *world) settle(t testing.TB) {
	t.Helper()
	for range 200 {
		if w.generation(t, "default") > 1 {
			release, err := w.vault.Exclusive(t.Context(), "default")
			if err != nil {
				t.Fatal(err)
			}
			release()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the grant did not end")
}

// policyRefusal is what every "no" wraps.
var policyRefusal = iofs.ErrPermission
