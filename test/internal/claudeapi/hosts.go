package claudeapi

import "strings"

// Hosts returns the names which the double answers for.
func Hosts() []string {
	return []string{
		"api.anthropic.com",
		"platform.claude.com",
		"console.anthropic.com",
		"claude.ai",
		"claude.com",
		"downloads.claude.ai",
		"mcp-proxy.anthropic.com",
		"statsig.anthropic.com",
	}
}

// HostsFile returns the text of an /etc/hosts that sends every name of [Hosts]
// to 127.0.0.1, where [Double.ListenInNetns] listens.
func (d *Double) HostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, host := range Hosts() {
		b.WriteString("127.0.0.1 " + host + "\n")
	}
	return b.String()
}
