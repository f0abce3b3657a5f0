package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/skybus-io/skybus/bus"
)

type configCheckCmd struct {
	File string `arg:"" help:"The file."`
}

// Help is shown below the usage.
func (*configCheckCmd) Help() string {
	return `It reads the file as ` + "`skybus up -f FILE`" + ` does and starts nothing. All mistakes are told, each with its line and field, also what
does not go together: entries at listeners that there are not, credentials that nobody takes, subjects that are not allowed,
addresses that are there twice.

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
	p, err := c.check(app, up, func() error {
		_, err := parser.Parse([]string{"up", "--file", c.File})
		return err
	})
	if err != nil {
		return err
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

// check reads the file, and finds all that is wrong with it. parse reads it as up does.
func (c *configCheckCmd) check(app *App, up *kong.Node, parse func() error) (*platformFile, error) {
	data, err := readSettings(c.File, maxPlatformFile)
	if err != nil {
		return nil, usagef("%v", err)
	}
	flags := platformFlags(up)
	p, f := scanPlatform(c.File, data, flags)
	if len(f.mistakes) == 0 {
		if err := parse(); err != nil {
			p.flagMistake(f, up, err)
		}
	}
	ns, err := p.namespace(app)
	if err != nil {
		f.mistake(f.lineOf("namespace"), "namespace", "%s", strings.TrimPrefix(bus.AsError(err).Message, "namespace "))
		return nil, platformMistakes(f, c.File)
	}
	external := app.Server != "" || app.Context != "" || p.flags["server"] != nil || p.flags["context"] != nil
	(&together{platformFile: p, f: f, known: flags, ns: ns, external: external}).check()
	return p, platformMistakes(f, c.File)
}

// namespace is the one that the platform would be in: flags and the environment count more than the file.
func (p *platformFile) namespace(app *App) (bus.Namespace, error) {
	own, _ := p.flags["namespace"].(string)
	return bus.ParseNamespace(cmp.Or(app.Namespace, own))
}

// flagMistake tells where the file has the flag that an error is about.
func (p *platformFile) flagMistake(f *yamlFile, up *kong.Node, err error) {
	text := strings.TrimPrefix(strings.TrimSpace(message(err)), "up: ")
	for name, flag := range platformFlags(up) {
		if rest, ok := strings.CutPrefix(text, "--"+flag.Name); ok && !strings.HasPrefix(rest, "-") && !strings.HasPrefix(rest, " and ") {
			f.mistake(f.lineOf(name), name, "%s", strings.TrimLeft(strings.TrimPrefix(rest, "="), ": "))
			return
		}
	}
	f.mistake(0, "", "%s", text)
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
