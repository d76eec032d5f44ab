package policy

import (
	"errors"
	iofs "io/fs"
	"regexp"
	"slices"
	"sync"

	"github.com/claudefs/claudefs/internal/sentinel"
)

// ErrDenied is the decision "no"; it wraps fs.ErrPermission.
var ErrDenied = sentinel.New("denied by policy", iofs.ErrPermission)

// ErrSyntax: a file is no policy, or no tests of one. The error's text is that of the mistake alone.
var ErrSyntax = errors.New("policy has a mistake")

// mistake is an error of a file's author.
type mistake struct{ error }

// Is implements the interface of errors.Is.
func (mistake) Is(target error) bool { return target == ErrSyntax }

// Unwrap implements the interface of errors.Unwrap.
func (m mistake) Unwrap() error { return m.error }

// Level is what a rule's allow promises about sharing.
type Level string

// The levels.
const (
	// LevelShared: any container that has the tree mounted.
	LevelShared Level = "shared"
	// LevelProject: the container's compose project, or its dev.claudefs.project label, is the tree's name.
	LevelProject Level = "project"
	// LevelIsolated: one running container at a time, and none that could become another one.
	LevelIsolated Level = "isolated"
)

// Login says what happens to a login made inside a tree.
type Login string

// What can happen to a login made inside a tree.
const (
	LoginCapture Login = "capture" // it becomes the tree's account
	LoginDeny    Login = "deny"    // it is refused
)

// State says how long a tree's state files last.
type State string

// How long state files last.
const (
	StatePersistent State = "persistent" // until they are removed
	StateEphemeral  State = "ephemeral"  // until the last container that uses the tree has ended
)

// Credential says what a tree's credential file holds.
type Credential string

// What a credential file can hold.
const (
	CredentialOAuth  Credential = "oauth"   // the account's access token
	CredentialAPIKey Credential = "api-key" // there is no such file; the account's API key comes by settings.json
	CredentialNone   Credential = "none"    // there is no such file: state only
)

// Settings says what a tree's settings.json is made of. Keys that divert the client are in none of it.
type Settings string

// What settings.json can be made of.
const (
	SettingsOverlay  Settings = "overlay"  // the host's base and what the tree has written
	SettingsPrivate  Settings = "private"  // what the tree has written
	SettingsReadonly Settings = "readonly" // the host's base; a write is refused
)

// RefreshToken says what a reader sees as refresh token.
type RefreshToken string

// What a reader sees as refresh token.
const (
	RefreshSurrogate RefreshToken = "surrogate" // a placeholder: the client tells by its lock when its token fails
	RefreshNull      RefreshToken = "null"      // none: for clients older than 2.1.81
)

// Policy is a parsed policy file. Its rules do not change after the first question.
type Policy struct {
	Version int    `yaml:"version"`
	Rules   []Rule `yaml:"rules"`
	// Tests are questions that the policy has to answer as they say.
	Tests []Test `yaml:"tests"`

	text   []byte   // what it was read from
	byTree sync.Map // the rules that are about a tree, by its name
}

// Text is what the policy was read from.
func (p *Policy) Text() []byte { return slices.Clone(p.text) }

// Rule is one entry of rules. It has either Allow or Deny.
type Rule struct {
	Name  string `yaml:"name"`
	Match Match  `yaml:"match"`
	Allow *Allow `yaml:"allow"`
	Deny  string `yaml:"deny"`
}

// Match lists conditions; all that are given must hold.
type Match struct {
	Tree      Globs           `yaml:"tree"`
	Container *ContainerMatch `yaml:"container"`
	Host      *HostMatch      `yaml:"host"`
	// UID is the caller's file system uid as the host counts it, in a container or not.
	UID []uint32 `yaml:"uid"`
}

// ContainerMatch is about the container's facts. Any condition at all needs a runtime that answers.
type ContainerMatch struct {
	Name           Globs            `yaml:"name"`
	Image          Globs            `yaml:"image"`
	Digest         Globs            `yaml:"digest"`
	Labels         map[string]Globs `yaml:"labels"`
	ComposeProject Globs            `yaml:"compose_project"`
	ComposeService Globs            `yaml:"compose_service"`
	Runtime        Globs            `yaml:"runtime"`
	Pod            Globs            `yaml:"pod"`
	Namespace      Globs            `yaml:"namespace"`
	User           Globs            `yaml:"user"`
	// Privileged is whether it could become another container, by any of the powers that docs/policy.md lists.
	Privileged *bool `yaml:"privileged"`
}

// HostMatch is about a process in no container.
type HostMatch struct {
	UID []uint32 `yaml:"uid"`
	Exe Globs    `yaml:"exe"`
}

// Allow is what a matching rule gives.
type Allow struct {
	Level Level `yaml:"level"`
	// Account is a name, or "{tree}", "{project}", "{container}", "{default}". Empty: the level's own choice.
	Account    string     `yaml:"account"`
	Credential Credential `yaml:"credential"`
	// Scopes are all that the account may have been granted. Empty: any.
	Scopes       []string     `yaml:"scopes"`
	Login        Login        `yaml:"login"`
	RefreshToken RefreshToken `yaml:"refresh_token"`
	// TTL is how long after its start a container may read; 0: always.
	TTL Duration `yaml:"ttl"`
	// Hours are when it may; none: always.
	Hours Hours `yaml:"hours"`
	// ReadsPerMinute bounds how often a container may open the credential of one tree; 0: no bound.
	ReadsPerMinute int `yaml:"reads_per_minute"`
	// State is whether the tree's files outlive its containers; default: persistent.
	State State `yaml:"state"`
	// Settings is what the tree's settings.json is made of; default: private in isolated, else overlay.
	Settings Settings `yaml:"settings"`
	// Endpoints are the base URLs that the tree may put into its settings; default: none.
	Endpoints []string `yaml:"endpoints"`
	// Approval "first-read" has a container wait at its first read until an operator approves it; default: none.
	Approval string `yaml:"approval"`
	// Privileged "allow" lets in a container that could become another one; default: refused in isolated only.
	Privileged string `yaml:"privileged"`
}

// treeName is the grammar of a tree's name, which is a directory name, a vault record and part of an account's name.
var treeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ValidTree reports whether name can name a tree.
func ValidTree(name string) bool { return treeName.MatchString(name) }
