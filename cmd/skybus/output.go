package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatJSON  outputFormat = "json"
	formatYAML  outputFormat = "yaml"
)

// printList prints items to stdout: as an array, or as a table with a row for each. Everything that lists uses it. Where
// there are none, the table is not there either: see note.
func printList[T any](a *App, items []T, header []string, row func(T) []any) error {
	if a.Output != formatTable {
		if items == nil {
			items = []T{}
		}
		return encode(a.stdout, a.Output, items)
	}
	if len(items) == 0 {
		return nil
	}
	rows := make([][]any, 0, len(items))
	for _, item := range items {
		rows = append(rows, row(item))
	}
	return a.writeTable(header, rows)
}

// note says on stderr what a table cannot say. Programs, that read JSON or YAML, see it from the data.
func (a *App) note(format string, args ...any) {
	if a.Output == formatTable {
		fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
	}
}

// printOne prints one value to stdout: as an object, or as rows of a name and its value.
func printOne(a *App, v any, rows [][]any) error {
	if a.Output != formatTable {
		return encode(a.stdout, a.Output, v)
	}
	return a.writeTable(nil, rows)
}

// printEvent prints one of a sequence that has no end yet: a line of JSON, a YAML document, or a line of text.
func printEvent(a *App, v any, line string) error {
	switch a.Output {
	case formatJSON:
		return encodeJSON(a.stdout, v, "")
	case formatYAML:
		if _, err := io.WriteString(a.stdout, "---\n"); err != nil {
			return err
		}
		return encode(a.stdout, a.Output, v)
	case formatTable:
	}
	_, err := fmt.Fprintln(a.stdout, printable(line))
	return err
}

// writeValue writes a value to stdout as it is, so that it can be put into a file. A line of text is ended. A terminal is
// shown only what it can show.
func (a *App) writeValue(value []byte) error {
	text := utf8.Valid(value)
	if isTerminal(a.stdout) {
		if !text {
			value = strconv.AppendQuote(nil, string(value))
		}
		value, text = []byte(printable(string(value))), true
	}
	if text && !bytes.HasSuffix(value, []byte("\n")) {
		value = append(bytes.Clone(value), '\n')
	}
	_, err := a.stdout.Write(value)
	return err
}

// encode writes v as JSON or YAML. Both have the names and the order of fields that encoding/json gives them.
func encode(w io.Writer, format outputFormat, v any) error {
	if format == formatJSON {
		return encodeJSON(w, v, "  ")
	}
	var text strings.Builder
	if err := encodeJSON(&text, v, ""); err != nil {
		return err
	}
	out, err := yamlOf(text.String())
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = io.WriteString(w, out)
	return err
}

func encodeJSON(w io.Writer, v any, indent string) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err := io.WriteString(w, escaped(text.String()))
	return err
}

// escaped writes what could steer a terminal as JSON's own escapes: encoding/json lets DEL, C1 controls and marks of
// direction through. They stand only inside of strings.
func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, "\\u%04x\\u%04x", high, low)
		default:
			fmt.Fprintf(&out, "\\u%04x", r)
		}
	}
	return out.String()
}

// printable takes out of text what could steer a terminal: it may come from anyone on the bus.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// terminal is the file descriptor behind v when it is a terminal.
func terminal(v any) (fd int, ok bool) {
	f, ok := v.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(f.Fd())
	return fd, term.IsTerminal(fd)
}

func isTerminal(v any) bool {
	_, ok := terminal(v)
	return ok
}
