// Package strictyaml decodes YAML that decides about secrets: one document, no unknown and no doubled key, no key
// without a value, no anchors (a few lines of which expand without end), and errors that name file, line and column
// and show the line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Decode decodes b into out. name is for messages. An empty document is an error when required is true.
func Decode(name string, b []byte, out any, required bool) error {
	if err := checkText(name, b); err != nil {
		return err
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return positioned(name, b, err)
	}
	body, err := document(name, f)
	if err != nil {
		return err
	}
	if body == nil {
		if required {
			return fmt.Errorf("%s: the file is empty", name)
		}
		return nil
	}
	if err := checkNodes(name, b, body); err != nil {
		return err
	}
	// The tree that was checked is the one that is decoded, not a second reading of the text.
	if err := yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict()).DecodeFromNode(body, out); err != nil {
		return positioned(name, b, err)
	}
	return nil
}

// Refuse is the error of a decoded document with a value that is not accepted. path leads there, by keys and list
// indexes; of one that is not there as much is used as is.
func Refuse(name string, b []byte, path []any, why error) error {
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, why)
	}
	body, err := document(name, f)
	if err != nil || body == nil {
		return fmt.Errorf("%s: %w", name, why)
	}
	n := body
	for _, step := range path {
		next := child(n, step)
		if next == nil {
			break
		}
		n = next
	}
	return positioned(name, b, &yaml.SyntaxError{Message: why.Error(), Token: first(n)})
}

// child goes one step down, nil where there is none.
func child(n ast.Node, step any) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			if v.Key.GetToken().Value == step {
				return v.Value
			}
		}
	case *ast.SequenceNode:
		if i, ok := step.(int); ok && i < len(n.Values) {
			return n.Values[i]
		}
	}
	return nil
}

// first is where a node begins: a mapping does with its first key; its own token may be the colon behind that.
func first(n ast.Node) *token.Token {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return n.GetToken()
}

// document returns the body of the only document; nil when there is none.
func document(name string, f *ast.File) (ast.Node, error) {
	var body ast.Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType {
			continue
		}
		if body != nil {
			return nil, fmt.Errorf("%s: want one YAML document, found more", name)
		}
		body = d.Body
	}
	return body, nil
}

// checkNodes refuses what means something else than it seems to, or nothing.
func checkNodes(name string, b []byte, body ast.Node) error {
	v := &shape{}
	ast.Walk(v, body)
	if v.bad == nil {
		return nil
	}
	return positioned(name, b, &yaml.SyntaxError{Message: v.why, Token: v.bad.GetToken()})
}

// shape finds the first node that is not accepted.
type shape struct {
	bad ast.Node
	why string
}

// Visit implements ast.Visitor.
func (s *shape) Visit(n ast.Node) ast.Visitor {
	if s.bad != nil {
		return nil
	}
	if why := unwanted(n); why != "" {
		s.bad, s.why = n, why
	}
	return s
}

// decimal is how a whole number reads when text and number are the same.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// unwanted says why a node is not accepted, "" when it is.
func unwanted(n ast.Node) string {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		return "anchors, aliases, tags and merge keys are not accepted"
	case ast.NullType:
		// A condition without a value would be no condition: "host:" alone would let everybody in.
		return "no value is given; give one or leave the key out (the word null needs quotes)"
	case ast.FloatType, ast.InfinityType, ast.NanType:
		// 1.10 would become "1.1", and 1.5 the uid 1.
		return "numbers with a fraction are not accepted; text needs quotes"
	case ast.IntegerType:
		if !decimal.MatchString(n.GetToken().Value) {
			return "write the number in plain decimal, or as text in quotes" // 010 would be 8
		}
	case ast.BoolType:
		if v := n.GetToken().Value; v != "true" && v != "false" {
			return "write true or false in lower case, or as text in quotes"
		}
	}
	return ""
}

// positioned gives a YAML error the form file:line:column: message, with the source lines and a caret below.
func positioned(name string, b []byte, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return fmt.Errorf("%s: %w", name, err)
	}
	t := ye.GetToken()
	if t == nil || t.Position == nil {
		return fmt.Errorf("%s: %s", name, ye.GetMessage())
	}
	p := t.Position
	return fmt.Errorf("%s:%d:%d: %s\n%s", name, p.Line, p.Column, ye.GetMessage(), excerpt(string(b), p.Line, p.Column))
}

const (
	around  = 3   // lines that are shown before and after the one that is meant
	maxWide = 120 // characters that are shown of a line
)

// excerpt shows a place of the source, as it is written there.
func excerpt(source string, line, column int) string {
	lines := strings.Split(strings.TrimRight(source, "\n"), "\n")
	var out []string
	for n := max(1, line-around); n <= min(len(lines), line+around); n++ {
		mark, text := " ", []rune(strings.TrimRight(lines[n-1], "\r"))
		if n == line {
			mark = ">"
		}
		// Every line begins where the one that is meant has to, so that columns stay columns.
		from := min(max(0, column-maxWide+20), len(text))
		shown := string(text[from:min(len(text), from+maxWide)])
		out = append(out, strings.TrimRight(fmt.Sprintf("%s%3d | %s", mark, n, shown), " "))
		if n == line {
			out = append(out, strings.Repeat(" ", len(">123 | ")+max(0, column-1-from))+"^")
		}
	}
	return strings.Join(out, "\n")
}
