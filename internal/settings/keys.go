package settings

import (
	"regexp"
	"strings"
)

// Reason says why the firewall took a key out.
type Reason string

// Why keys are taken out. What the client does with each was measured with version 2.1.330; of keys under "also" the
// effect is the client's own word: it does not let a project's settings set them.
const (
	// ReasonCredential: the client signs its requests with this instead of the account's token. Also: it reads the
	// credential in another way, or not at all.
	ReasonCredential Reason = "another credential than the account's"
	// ReasonPlace: the client reads its credential or its settings in another place, where nothing is filtered.
	ReasonPlace Reason = "another place for the client's files"
	// ReasonProvider: the client calls another provider than the account's.
	ReasonProvider Reason = "another provider than the account's"
	// ReasonRoute: requests pass a proxy, or a certificate is trusted that the operator has not chosen: whoever sets
	// both reads the token on its way.
	ReasonRoute Reason = "another way to the server, or another trust in it"
	// ReasonEndpoint: the client sends requests, and the account's token, to this URL.
	ReasonEndpoint Reason = "a URL that no rule allows (allow.endpoints)"
)

// topKeys are the keys beside env.
var topKeys = map[string]Reason{
	"__proto__":            ReasonPlace,      // whatever a JavaScript program may take from there (no effect was seen)
	"apiKeyHelper":         ReasonCredential, // its output is the credential
	"primaryApiKey":        ReasonCredential, // in .claude.json: used when there is no token, and for the organization's settings
	"awsAuthRefresh":       ReasonProvider,
	"awsCredentialExport":  ReasonProvider,
	"gcpAuthRefresh":       ReasonProvider,
	"proxyAuthHelper":      ReasonRoute,
	"forceLoginGatewayUrl": ReasonEndpoint, // where a login is made
}

// envKeys are the names below env, in capitals.
var envKeys = map[string]Reason{
	"__PROTO__": ReasonPlace,

	"ANTHROPIC_API_KEY":                    ReasonCredential,
	"ANTHROPIC_AUTH_TOKEN":                 ReasonCredential,
	"CLAUDE_CODE_OAUTH_TOKEN":              ReasonCredential,
	"ANTHROPIC_CUSTOM_HEADERS":             ReasonCredential, // "Authorization: …" in it replaces the token
	"ANTHROPIC_PROFILE":                    ReasonCredential,
	"ANTHROPIC_FEDERATION_RULE_ID":         ReasonCredential,
	"CLAUDE_CODE_SIMPLE":                   ReasonCredential, // as --bare: no token is used
	"CLAUDE_CODE_OAUTH_CLIENT_ID":          ReasonCredential,
	"CLAUDE_CODE_OAUTH_SCOPES":             ReasonCredential,
	"CLAUDE_CODE_HOST_AUTH_ENV_VAR":        ReasonCredential,
	"CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": ReasonCredential,

	"CLAUDE_CONFIG_DIR":               ReasonPlace,
	"CLAUDE_SECURESTORAGE_CONFIG_DIR": ReasonPlace,
	"CLAUDE_CODE_USE_COWORK_PLUGINS":  ReasonPlace, // settings are then read from cowork_settings.json
	"ANTHROPIC_CONFIG_DIR":            ReasonPlace,
	"HOME":                            ReasonPlace,

	"CLAUDE_CODE_USE_BEDROCK":                ReasonProvider,
	"CLAUDE_CODE_USE_VERTEX":                 ReasonProvider,
	"CLAUDE_CODE_USE_FOUNDRY":                ReasonProvider,
	"CLAUDE_CODE_USE_MANTLE":                 ReasonProvider,
	"CLAUDE_CODE_USE_GATEWAY":                ReasonProvider,
	"CLAUDE_CODE_USE_ANTHROPIC_AWS":          ReasonProvider,
	"CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": ReasonProvider,
	"AWS_BEARER_TOKEN_BEDROCK":               ReasonProvider,

	"HTTP_PROXY":                                 ReasonRoute,
	"HTTPS_PROXY":                                ReasonRoute,
	"ALL_PROXY":                                  ReasonRoute,
	"NO_PROXY":                                   ReasonRoute,
	"CLAUDE_CODE_HTTP_PROXY":                     ReasonRoute,
	"CLAUDE_CODE_HTTPS_PROXY":                    ReasonRoute,
	"CLAUDE_CODE_ENABLE_PROXY_AUTH_HELPER":       ReasonRoute,
	"ANTHROPIC_UNIX_SOCKET":                      ReasonRoute,
	"CLAUDE_CODE_RUNNER_MODEL_SOCKET":            ReasonRoute,
	"NODE_EXTRA_CA_CERTS":                        ReasonRoute,
	"NODE_TLS_REJECT_UNAUTHORIZED":               ReasonRoute,
	"SSL_CERT_FILE":                              ReasonRoute,
	"SSL_CERT_DIR":                               ReasonRoute,
	"CLAUDE_CODE_CERT_STORE":                     ReasonRoute,
	"CLAUDE_CODE_CLIENT_CERT":                    ReasonRoute,
	"CLAUDE_CODE_CLIENT_KEY":                     ReasonRoute,
	"CLAUDE_CODE_CLIENT_KEY_PASSPHRASE":          ReasonRoute,
	"BUN_TLS_REFUSE_DISTRUSTED_KEYS":             ReasonRoute,
	"_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL":   ReasonRoute,
	"CLAUDE_CODE_DISABLE_LOOPED_CROSS_CERT_DROP": ReasonRoute,
	"CLAUDE_CODE_DISABLE_SELF_NAMED_CERT_DROP":   ReasonRoute,
}

// envForms are names of a form that the client gives to one kind of thing: it has dozens, and each version brings more.
var envForms = []struct {
	form   *regexp.Regexp
	reason Reason
}{
	{regexp.MustCompile(`^(ANTHROPIC|CLAUDE)_[A-Z0-9_]{0,80}_(TOKEN|API_KEY|TOKEN_FILE|CREDS_FILE|FILE_DESCRIPTOR)$`), ReasonCredential},
	{regexp.MustCompile(`^CLAUDE_CODE_SKIP_[A-Z0-9_]{0,80}_AUTH$`), ReasonProvider},
	{regexp.MustCompile(`^AWS_ENDPOINT_URL[A-Z0-9_]{0,80}$`), ReasonEndpoint},
	{regexp.MustCompile(`^(ANTHROPIC|CLAUDE|VOICE)_[A-Z0-9_]{0,80}_?(BASE_URL|OAUTH_URL|INGRESS_URL|BRIDGE_URL|API_BASE|APPS_BASE|CONSOLE_BASE)$`), ReasonEndpoint},
}

// envReason says why a name below env is the firewall's; "" when it is not. Capitals or not: the client reads proxies
// in both.
func envReason(name string) Reason {
	name = strings.ToUpper(name)
	if r, ok := envKeys[name]; ok {
		return r
	}
	for _, f := range envForms {
		if f.form.MatchString(name) {
			return f.reason
		}
	}
	return ""
}
