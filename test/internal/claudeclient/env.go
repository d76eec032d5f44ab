package claudeclient

// Env returns the environment that keeps the client quiet and makes it trust
// the CA certificate in caFile (a path as the client sees it). It is complete
// but for PATH, HOME and CLAUDE_CONFIG_DIR, which depend on the place; it holds
// no ANTHROPIC_ or CLAUDE_CODE_OAUTH_ name, because those beat the credential
// file. Set it as the whole of exec.Cmd.Env, or pass each with `docker exec -e`.
func Env(caFile string) []string {
	return []string{
		"NODE_EXTRA_CA_CERTS=" + caFile,
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"DISABLE_TELEMETRY=1",
		"DISABLE_ERROR_REPORTING=1",
		"DISABLE_AUTOUPDATER=1",
		"DISABLE_BUG_COMMAND=1",
		"LANG=C.UTF-8",
		"TERM=xterm-256color",
	}
}

// OnceArgs returns the arguments of `claude` for one prompt in plain text.
func OnceArgs(prompt string) []string {
	return []string{"-p", prompt}
}

// SessionArgs returns the arguments of `claude` that [Start] expects.
func SessionArgs() []string {
	return []string{
		"-p", "--verbose",
		"--input-format", "stream-json", "--output-format", "stream-json",
	}
}
