package policy

import (
	"embed"
	"slices"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// BuiltinNames are the embedded policies.
var BuiltinNames = []string{"shared", "project", "isolated"}

// Builtin returns the text of an embedded policy.
func Builtin(name string) ([]byte, bool) {
	if !slices.Contains(BuiltinNames, name) {
		return nil, false
	}
	b, err := builtin.ReadFile("builtin/" + name + ".yaml")
	return b, err == nil
}
