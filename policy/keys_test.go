package policy_test

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// grammar is which keys stand where; "*" is any key, a nil map a value without keys.
type grammar map[string]grammar

var policyKeys = grammar{
	"version": nil,
	"tests": {
		"name": nil, "tree": nil, "uid": nil, "runtime": nil, "at": nil, "host": {"uid": nil, "exe": nil},
		"want": {"allowed": nil, "rule": nil, "account": nil, "level": nil, "reason": nil},
		"container": {
			"name": nil, "image": nil, "digest": nil, "compose_project": nil, "compose_service": nil, "runtime": nil,
			"pod": nil, "namespace": nil, "user": nil, "privileged": nil, "age": nil, "labels": {"*": nil},
		},
	},
	"rules": {
		"name": nil, "deny": nil,
		"match": {
			"tree": nil, "host": {"uid": nil, "exe": nil}, "uid": nil,
			"container": {
				"name": nil, "image": nil, "digest": nil, "compose_project": nil, "compose_service": nil, "runtime": nil,
				"pod": nil, "namespace": nil, "user": nil, "privileged": nil, "labels": {"*": nil},
			},
		},
		"allow": {
			"level": nil, "account": nil, "credential": nil, "scopes": nil, "login": nil, "refresh_token": nil, "ttl": nil,
			"hours": nil, "reads_per_minute": nil, "approval": nil, "state": nil, "privileged": nil,
			"settings": nil, "endpoints": nil,
		},
	},
}

// badKey reads b on its own and returns the first unknown or doubled key, "" when there is none.
func badKey(b []byte) string {
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	bodies := 0
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		if bodies++; bodies > 1 {
			return "of a second document"
		}
		if bad := badIn(d.Body, policyKeys); bad != "" {
			return bad
		}
	}
	return ""
}

func badIn(n ast.Node, g grammar) string {
	switch n := n.(type) {
	case *ast.SequenceNode:
		for _, v := range n.Values {
			if bad := badIn(v, g); bad != "" {
				return bad
			}
		}
	case *ast.MappingNode:
		seen := map[string]bool{}
		for _, v := range n.Values {
			key := v.Key.GetToken().Value
			sub, ok := g[key]
			if any, free := g["*"]; free {
				sub, ok = any, true
			}
			if !ok || seen[key] {
				return key
			}
			seen[key] = true
			if bad := badIn(v.Value, sub); bad != "" {
				return bad
			}
		}
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode:
		return n.String()
	}
	return ""
}
