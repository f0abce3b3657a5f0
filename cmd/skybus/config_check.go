package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type configCheckCmd struct {
	File string `arg:"" help:"The file."`
}

// Help is shown below the usage.
func (*configCheckCmd) Help() string {
	return `It reads the file as ` + "`skybus up -f FILE`" + ` does and starts nothing. Each mistake is told with its line and field.

Examples:

    skybus config check skybus.yaml
    skybus config check skybus.yaml -o json`
}

// Run tells of what is wrong, or of what the file holds.
func (c *configCheckCmd) Run(app *App) error {
	quiet := *app
	root := &cli{}
	quiet.globals = root.common()
	parser, err := newParser(root, &quiet)
	if err != nil {
		return err
	}
	up := childOf(parser.Model.Node, "up")
	p, err := readPlatformFile(c.File, up)
	if err != nil {
		return err
	}
	if _, err := parser.Parse([]string{"up", "--file", c.File}); err != nil {
		return p.flagMistake(c.File, up, err)
	}
	found := map[string]any{
		"file": c.File, "flags": len(p.flags), "routes": len(p.routes), "entries": len(p.entries), "mirror": p.mirror != nil, "listeners": 0, "sources": 0,
	}
	if p.tcp != nil {
		found["listeners"] = len(p.tcp.Listeners)
	}
	if p.files != nil {
		found["sources"] = len(p.files.Sources)
	}
	var rows [][]any
	for _, name := range []string{"flags", "routes", "entries", "mirror", "listeners", "sources"} {
		rows = append(rows, []any{name, found[name]})
	}
	return printOne(app, found, append(rows, []any{"file", c.File + ": no mistake in it"}))
}

// flagMistake tells where the file has the flag that an error is about.
func (p *platformFile) flagMistake(file string, up *kong.Node, err error) error {
	text := strings.TrimPrefix(strings.TrimSpace(message(err)), "up: ")
	for name, flag := range platformFlags(up) {
		if rest, ok := strings.CutPrefix(text, "--"+flag.Name); ok && !strings.HasPrefix(rest, "-") && !strings.HasPrefix(rest, " and ") {
			return usagef("%s: line %d: %s: %s", file, p.lines[name], name, strings.TrimLeft(strings.TrimPrefix(rest, "="), ": "))
		}
	}
	return usagef("%s: %s", file, text)
}

type configSchemaCmd struct{}

// Help is shown below the usage.
func (*configSchemaCmd) Help() string {
	return `Examples:

    skybus config schema > skybus.schema.json    # then, as the first line of skybus.yaml:
    # yaml-language-server: $schema=skybus.schema.json`
}

// Run prints it.
func (*configSchemaCmd) Run(app *App) error {
	parser, err := newParser(&cli{}, app)
	if err != nil {
		return err
	}
	text, err := platformSchema(platformFlags(childOf(parser.Model.Node, "up")))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(app.stdout, "%s\n", text)
	return err
}
