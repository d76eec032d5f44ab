// Package strictyaml decodes YAML that decides about secrets: one document, no unknown and no doubled key, no anchors
// (a few lines of which expand without end), and errors that name file, line and column and show the line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize bounds a file, in bytes.
const maxSize = 1 << 20

// maxDepth bounds its nesting.
const maxDepth = 32

// Decode decodes b into out. name is for messages. An empty document is an error when required is true.
func Decode(name string, b []byte, out any, required bool) error {
	if len(b) > maxSize {
		return fmt.Errorf("%s: %d bytes, at most %d are accepted", name, len(b), maxSize)
	}
	if err := checkText(name, b); err != nil {
		return err
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return positioned(name, err)
	}
	empty, err := checkShape(name, f)
	if err != nil || empty && !required {
		return err
	}
	if empty {
		return fmt.Errorf("%s: the file is empty", name)
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return positioned(name, err)
	}
	return nil
}

// checkText refuses nesting that would cost the parser its stack before the tree can be looked at.
func checkText(name string, b []byte) error {
	depth := 0
	for i, c := range b {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case 0:
			return fmt.Errorf("%s: not text (a zero byte at offset %d)", name, i)
		}
		if depth > maxDepth {
			return fmt.Errorf("%s:%d: nested too deeply", name, 1+bytes.Count(b[:i], []byte("\n")))
		}
	}
	return nil
}

func checkShape(name string, f *ast.File) (empty bool, err error) {
	var docs []*ast.DocumentNode
	for _, d := range f.Docs {
		if d.Body != nil && d.Body.Type() != ast.NullType {
			docs = append(docs, d)
		}
	}
	if len(docs) == 0 {
		return true, nil
	}
	if len(docs) > 1 {
		return false, fmt.Errorf("%s: want one YAML document, found %d", name, len(docs))
	}
	v := &shape{}
	ast.Walk(v, docs[0].Body)
	if v.bad != nil {
		t := v.bad.GetToken()
		return false, fmt.Errorf("%s:%d:%d: anchors, aliases, tags and merge keys are not accepted", name, t.Position.Line, t.Position.Column)
	}
	return false, nil
}

type shape struct{ bad ast.Node }

// Visit implements ast.Visitor.
func (s *shape) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		if s.bad == nil {
			s.bad = n
		}
	}
	return s
}

// positioned gives a YAML error the form file:line:column: message, with the source line and a caret below.
func positioned(name string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return fmt.Errorf("%s: %w", name, err)
	}
	where := name
	if t := ye.GetToken(); t != nil && t.Position != nil {
		where = fmt.Sprintf("%s:%d:%d", name, t.Position.Line, t.Position.Column)
	}
	_, source, _ := strings.Cut(yaml.FormatError(err, false, true), "\n")
	return fmt.Errorf("%s: %s\n%s", where, ye.GetMessage(), strings.TrimRight(source, "\n"))
}
