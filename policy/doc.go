// Package policy decides what a caller may have of a tree. It is pure: the same policy, request and facts give the
// same decision, without clock, network or disk.
//
// A policy file is strict YAML:
//
//	version: 1
//	rules:                      # the first rule that matches decides; what none matches is denied
//	  - name: web
//	    match:                  # all keys given must hold; a list means any of; names are globs
//	      tree: "web-*"
//	      container: {image: "ghcr.io/acme/*", labels: {team: shop}}
//	    allow: {level: isolated, account: work, login: capture}
//	  - name: me-on-the-host
//	    match: {host: {uid: [1000]}}
//	    allow: {level: shared, account: default}
//	  - name: rest
//	    deny: "not covered by policy"
//
// A rule without "container" and without "host" matches containers only: a host process needs a rule that names it.
// "container: {}" matches any container. An image glob is compared with the image's name in short and in full, with
// and without its tag, and with its id. A level adds conditions of its own, see Level.
//
// The three levels are policy files too, embedded and shown by "claudefs policy show".
package policy
