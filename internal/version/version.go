// Package version says which claudefs this is.
package version

import "runtime/debug"

// Version is set at link time for releases.
var Version = "dev"

// Revision is the commit that the binary was built from, "" when the build does not say.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
