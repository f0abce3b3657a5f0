package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// writeTable writes columns without lines, so that people and awk can read them. A terminal gets a bold header and rows
// no wider than itself.
func (a *App) writeTable(header []string, rows [][]any) error {
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatUpper
	if fd, ok := terminal(a.stdout); ok {
		if width, _, err := term.GetSize(fd); err == nil {
			style.Size.WidthMax = width
		}
		style.Color.Header = text.Colors{text.Bold}
	}
	t := table.NewWriter()
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	if len(header) > 0 {
		row := table.Row{}
		for _, name := range header {
			row = append(row, name)
		}
		t.AppendHeader(row)
	}
	for _, cells := range rows {
		row := table.Row{}
		for _, c := range cells {
			row = append(row, cell(c))
		}
		t.AppendRow(row)
	}
	out := t.Render()
	if out == "" {
		return nil
	}
	_, err := io.WriteString(a.stdout, out+"\n")
	return err
}

// cell is one line of text, and never empty, so that columns can be counted.
func cell(v any) string {
	if v == nil {
		return "-"
	}
	s := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, printable(fmt.Sprint(v)))
	return cmp.Or(s, "-")
}
