package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/skybus-io/skybus/bus"
)

const byteOrderMark = "\ufeff" // some editors begin a file with it

// readSettings reads a file of at most so many bytes.
func readSettings(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return data, err
}

// yamlFile is a file that people write. It is read from its tree and not by reflection: a decoder knows neither the field that
// it cannot fill nor words for what it wanted.
type yamlFile struct {
	what     string              // it holds
	prefix   string              // the path of the part that this is of a file; empty for all of it
	lines    map[string]int      // of fields, by path
	anchors  map[string]ast.Node // by name
	mistakes []string

	elsewhere map[string]string // what to say of fields that are another file's, by path
}

// err tells of all mistakes.
func (f *yamlFile) err(file string) error {
	switch len(f.mistakes) {
	case 0:
		return nil
	case 1:
		return bus.Errorf(bus.InvalidArgument, "%s: %s", file, f.mistakes[0])
	}
	return bus.Errorf(bus.InvalidArgument, "%s: %d mistakes:\n  %s", file, len(f.mistakes), strings.Join(f.mistakes, "\n  "))
}

func (f *yamlFile) mistake(line int, path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path = join(f.prefix, path); path != "" {
		text = path + ": " + text
	}
	if line > 0 {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	f.mistakes = append(f.mistakes, text)
}

// part is the part of the file at path, as if it were a file. Its mistakes are to be taken back by [yamlFile.take].
func (f *yamlFile) part(what, path string) yamlFile {
	return yamlFile{what: what, prefix: join(f.prefix, path), lines: map[string]int{}, anchors: f.anchors}
}

func (f *yamlFile) take(part *yamlFile) {
	f.mistakes = append(f.mistakes, part.mistakes...)
	at := strings.TrimPrefix(strings.TrimPrefix(part.prefix, f.prefix), ".")
	for path, line := range part.lines {
		f.lines[join(at, path)] = line
	}
}

// join puts two paths together, either of which may be empty.
func join(path, more string) string {
	if path == "" || more == "" || more[0] == '[' {
		return path + more
	}
	return path + "." + more
}

// read is the tree of the file, nil for a mistake.
func (f *yamlFile) read(data []byte) ast.Node {
	f.lines, f.anchors = map[string]int{}, map[string]ast.Node{}
	body := f.body(data)
	if body != nil {
		ast.Walk(f, body)
	}
	return body
}

// body is the only document of the file.
func (f *yamlFile) body(data []byte) ast.Node {
	tree, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte(byteOrderMark)), 0)
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		at := e.GetToken().Position
		f.mistake(0, "", "line %d, column %d: %s", at.Line, at.Column, e.GetMessage())
		return nil
	} else if err != nil {
		f.mistake(0, "", "%v", err)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		switch {
		case doc.Body == nil, doc.Body.Type() == ast.CommentType, doc.Body.Type() == ast.DirectiveType:
		case body != nil:
			f.mistake(lineOf(doc.Body), "", "there is something after the %s: want one a file", f.what)
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		f.mistake(0, "", "it is empty: want a %s", f.what)
	}
	return body
}

// Visit collects the anchors.
func (f *yamlFile) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		f.anchors[a.Name.GetToken().Value] = a.Value
	}
	return f
}

// fields gives the value of each field of n to the function of its name.
func (f *yamlFile) fields(path string, n ast.Node, known map[string]func(path string, n ast.Node)) {
	object, ok := f.value(n).(ast.MapNode)
	if !ok {
		f.mistake(lineOf(n), path, "want fields, one of them %s", oneOf(known))
		return
	}
	for fields := object.MapRange(); fields.Next(); {
		name := fields.Key().GetToken().Value
		at := strings.TrimPrefix(path+"."+name, ".")
		line := lineOf(fields.Key())
		f.lines[at] = line
		read, ok := known[name]
		switch {
		case ok:
			read(at, fields.Value())
		case f.elsewhere[at] != "":
			f.mistake(line, at, "%s", f.elsewhere[at])
		default:
			f.mistake(line, at, "unknown field: want %s", oneOf(known))
		}
	}
}

func (f *yamlFile) text(path string, n ast.Node) string {
	switch v := f.value(n).(type) {
	case *ast.NullNode:
		return ""
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case ast.ScalarNode:
		return v.GetToken().Value // as it was written: 1.10 is not 1.1
	}
	f.mistake(lineOf(n), path, "want text")
	return ""
}

// boolean is not ok for a mistake and for null.
func (f *yamlFile) boolean(path string, n ast.Node) (v, ok bool) {
	switch v := f.value(n).(type) {
	case *ast.NullNode:
		return false, false
	case *ast.BoolNode:
		return v.Value, true
	}
	f.mistake(lineOf(n), path, "want true or false")
	return false, false
}

// value is what n stands for.
func (f *yamlFile) value(n ast.Node) ast.Node {
	for range 8 { // an alias may lead to an alias, and to itself
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			n = v.Value
		case *ast.AliasNode:
			n = f.anchors[v.Value.GetToken().Value]
		case *ast.MappingNode:
			if text := textWithColon(v); text != nil {
				return text
			}
			return n
		default:
			return n
		}
	}
	return nil
}

// textWithColon is the text that n is when it was written as orders:read, in a list within braces: YAML's colon between a field and its value has a
// space behind it, which the parser does not ask for there. It is nil for a field with its value.
func textWithColon(n *ast.MappingNode) ast.Node {
	if len(n.Values) != 1 || n.Start == nil || n.Start.Type != token.MappingValueType {
		return nil
	}
	name, colon, value := n.Values[0].Key.GetToken(), n.Start, n.Values[0].Value.GetToken()
	if name == nil || value == nil || name.Type == token.SingleQuoteType || name.Type == token.DoubleQuoteType {
		return nil
	}
	end := name.Position.Column + utf8.RuneCountInString(name.Value)
	if name.Position.Line != value.Position.Line || colon.Position.Column != end || value.Position.Column != end+1 {
		return nil
	}
	text := *name
	text.Value += ":" + value.Value
	text.Type = token.StringType
	return ast.String(&text)
}

// integer is not ok for a mistake and for null.
func (f *yamlFile) integer(path string, n ast.Node) (v int, ok bool) {
	if _, null := f.value(n).(*ast.NullNode); null {
		return 0, false
	}
	if number, is := f.value(n).(*ast.IntegerNode); is {
		if v, err := strconv.Atoi(number.GetToken().Value); err == nil {
			return v, true
		}
	}
	f.mistake(lineOf(n), path, "want a whole number")
	return 0, false
}

// duration is 0 for a mistake and for null.
func (f *yamlFile) duration(path string, n ast.Node) time.Duration {
	text := f.text(path, n)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		f.mistake(lineOf(n), path, "%.40q: want a duration such as 500ms or 10s", text)
	}
	return d
}

// size is 0 for a mistake and for null.
func (f *yamlFile) size(path string, n ast.Node) int64 {
	var size byteSize
	if text := f.text(path, n); text != "" {
		if err := size.UnmarshalText([]byte(text)); err != nil {
			f.mistake(lineOf(n), path, "%v", err)
		}
	}
	return int64(size)
}

// list gives each item of n to f.
func (f *yamlFile) list(path string, n ast.Node, what string, read func(path string, n ast.Node)) {
	list, ok := f.value(n).(*ast.SequenceNode)
	if !ok {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.mistake(lineOf(n), path, "want a list of %s, each beginning with a dash", what)
		}
		return
	}
	for i, item := range list.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		f.lines[at] = lineOf(item)
		read(at, item)
	}
}

// texts are those of a list.
func (f *yamlFile) texts(path string, n ast.Node, what string) []string {
	var all []string
	f.list(path, n, what, func(path string, n ast.Node) { all = append(all, f.text(path, n)) })
	return all
}

// lineOf is the line of a field, or of what it is missing in.
func (f *yamlFile) lineOf(path string) int {
	for path != "" {
		if line, ok := f.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func oneOf[T any](known map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}
