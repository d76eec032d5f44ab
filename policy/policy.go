package policy

import (
	iofs "io/fs"
	"regexp"

	"github.com/claudefs/claudefs/internal/sentinel"
)

// ErrDenied is the decision "no"; it wraps fs.ErrPermission.
var ErrDenied = sentinel.New("denied by policy", iofs.ErrPermission)

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

// RefreshToken says what a reader sees as refresh token.
type RefreshToken string

// What a reader sees as refresh token.
const (
	RefreshSurrogate RefreshToken = "surrogate" // a placeholder: the client tells by its lock when its token fails
	RefreshNull      RefreshToken = "null"      // none: for clients older than 2.1.81
)

// Policy is a parsed policy file.
type Policy struct {
	Version int    `yaml:"version"`
	Rules   []Rule `yaml:"rules"`
}

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
}

// ContainerMatch is about the container's facts. Any condition at all needs a runtime that answers.
type ContainerMatch struct {
	Name           Globs            `yaml:"name"`
	Image          Globs            `yaml:"image"`
	ComposeProject Globs            `yaml:"compose_project"`
	Labels         map[string]Globs `yaml:"labels"`
}

// empty reports whether any container matches, known to a runtime or not.
func (m *ContainerMatch) empty() bool {
	return len(m.Name)+len(m.Image)+len(m.ComposeProject)+len(m.Labels) == 0
}

// HostMatch is about a process in no container.
type HostMatch struct {
	UID []uint32 `yaml:"uid"`
}

// Allow is what a matching rule gives.
type Allow struct {
	Level Level `yaml:"level"`
	// Account is a name, or "{tree}", "{project}", "{default}". Empty: the level's own choice.
	Account      string       `yaml:"account"`
	Login        Login        `yaml:"login"`
	RefreshToken RefreshToken `yaml:"refresh_token"`
	// Privileged "allow" lets in a container that could become another one; default: refused in isolated only.
	Privileged string `yaml:"privileged"`
}

// treeName is the grammar of a tree's name, which is a directory name, a vault record and part of an account's name.
var treeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ValidTree reports whether name can name a tree.
func ValidTree(name string) bool { return treeName.MatchString(name) }
