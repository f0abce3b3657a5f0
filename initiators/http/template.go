package http

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"mime"
	"strings"
	texttemplate "text/template"
	"text/template/parse"
)

// maxRendered is how many bytes a template may make.
const maxRendered = 8 << 20

// renderer is a template of either package.
type renderer interface {
	Execute(w io.Writer, data any) error
}

// parseTemplates parses the templates of an entry, by media type. The error has the detail field.
func parseTemplates(texts map[string]string) (map[string]renderer, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	if len(texts) > MaxTemplates {
		return nil, invalid("templates", "there are %d: want at most %d", len(texts), MaxTemplates)
	}
	all := make(map[string]renderer, len(texts))
	for _, media := range sorted(texts) {
		field := "templates[" + media + "]"
		if m, params, err := mime.ParseMediaType(media); err != nil || m != media || len(params) > 0 || !strings.Contains(m, "/") || strings.Contains(m, "*") {
			return nil, invalid(field, "want a media type in lower case without parameters, such as text/html")
		}
		if media == typeMessagePack {
			return nil, invalid(field, "MessagePack is made of the answer, not of a template")
		}
		if len(texts[media]) > MaxTemplate {
			return nil, invalid(field, "has %d bytes: want at most %d", len(texts[media]), MaxTemplate)
		}
		t, err := parseTemplate(media, texts[media])
		if err != nil {
			return nil, invalid(field, "%w", err)
		}
		all[media] = t
	}
	return all, nil
}

// parseTemplate parses a template so that what it prints is escaped for its media type: HTML as html/template does, XML and JSON by a function
// that is put after each pipeline. Of other types nothing is.
func parseTemplate(media, text string) (renderer, error) {
	const name = "answer"
	if media == typeHTML || media == "application/xhtml+xml" {
		t, err := htmltemplate.New(name).Funcs(templateFuncs()).Parse(text)
		if err != nil {
			return nil, err
		}
		// It finds only when it is first executed where escaping is not possible.
		if err := t.Execute(io.Discard, Answer{}); err != nil {
			if ee, ok := errors.AsType[*htmltemplate.Error](err); ok {
				return nil, ee
			}
		}
		return t, nil
	}
	t, err := texttemplate.New(name).Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return nil, err
	}
	escaper := ""
	switch {
	case media == "application/xml" || media == "text/xml" || strings.HasSuffix(media, "+xml"):
		escaper = "xml"
	case media == typeJSON || strings.HasSuffix(media, "+json"):
		escaper = "json"
	}
	if escaper != "" {
		for _, part := range t.Templates() {
			if part.Tree != nil {
				escape(part.Root, escaper)
			}
		}
	}
	return t, nil
}

func templateFuncs() texttemplate.FuncMap {
	return texttemplate.FuncMap{"json": jsonText, "xml": xmlText, "join": join}
}

// escape puts a function at the end of each pipeline that prints, unless it is there.
func escape(n parse.Node, escaper string) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, inner := range n.Nodes {
			escape(inner, escaper)
		}
	case *parse.ActionNode:
		escapePipe(n.Pipe, escaper)
	case *parse.IfNode:
		escape(n.List, escaper)
		escape(n.ElseList, escaper)
	case *parse.RangeNode:
		escape(n.List, escaper)
		escape(n.ElseList, escaper)
	case *parse.WithNode:
		escape(n.List, escaper)
		escape(n.ElseList, escaper)
	}
}

func escapePipe(p *parse.PipeNode, escaper string) {
	if len(p.Decl) > 0 || len(p.Cmds) == 0 {
		return // an assignment prints nothing
	}
	last := p.Cmds[len(p.Cmds)-1]
	if id, ok := last.Args[0].(*parse.IdentifierNode); ok && id.Ident == escaper {
		return
	}
	p.Cmds = append(p.Cmds, &parse.CommandNode{
		NodeType: parse.NodeCommand, Pos: last.Pos, Args: []parse.Node{parse.NewIdentifier(escaper).SetPos(last.Pos)},
	})
}

// jsonText is a value as JSON, also between the tags of a page.
func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// xmlText is a value as the text or attribute of an element: what is no text as JSON.
func xmlText(v any) (string, error) {
	text, ok := v.(string)
	if n, is := v.(json.Number); is {
		text, ok = n.String(), true
	}
	if !ok && v != nil {
		var err error
		if text, err = jsonText(v); err != nil {
			return "", err
		}
	}
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		return "", err
	}
	return b.String(), nil
}

// join is a list as text.
func join(sep string, list []any) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, sep)
}

// limited is a buffer that takes no more than maxRendered.
type limited struct{ bytes.Buffer }

// Write appends p.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("the template makes more than %d bytes", maxRendered)
	}
	return l.Buffer.Write(p)
}

// WriteString appends s.
func (l *limited) WriteString(s string) (int, error) { return l.Write([]byte(s)) }

// render executes a template.
func render(t renderer, a Answer) ([]byte, error) {
	var out limited
	if err := t.Execute(&out, a); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
