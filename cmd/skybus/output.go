package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatJSON  outputFormat = "json"
	formatYAML  outputFormat = "yaml"
)

// printList prints items to stdout: as an array, or as a table with a row for each. Everything that lists uses it.
func printList[T any](a *App, items []T, header []string, row func(T) []any) error {
	if a.Output != formatTable {
		if items == nil {
			items = []T{}
		}
		return encode(a.stdout, a.Output, items)
	}
	rows := make([][]any, 0, len(items))
	for _, item := range items {
		rows = append(rows, row(item))
	}
	return a.writeTable(header, rows)
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
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
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
