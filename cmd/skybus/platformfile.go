package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/config/file"
	"github.com/skybus-io/skybus/micro/route"
)

const maxPlatformFile = 4 << 20

// platformFile is a file for `skybus up`: its flags, and all that is served.
type platformFile struct {
	flags   map[string]any // string, bool, []any or map[string]any, by the name of the flag
	mirror  *mirrorSetup   // nil without one
	tcp     *tcpSetup      // likewise
	files   *filesSetup    // likewise
	entries []namedEntry
	access  *gatewayAccess // nil without one
	routes  []namedRoute
	config  *file.Layer // nil without one

	accessWrong bool // it has mistakes, and is not there
}

// namedRoute is a route of a file with several.
type namedRoute struct {
	name  string
	route route.Route
}

// sectionFlags are flags of up that a file has no field for: a section says it, or it is no place for it.
func sectionFlags() []string {
	return []string{"file", "help", "output", "mirror", "mirror-http", "mirror-admin", "password", "token"}
}

// platformFlags are the flags that a platform's file may hold, by their names in it.
func platformFlags(up *kong.Node) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	for _, group := range up.AllFlags(false) {
		for _, flag := range group {
			if !slices.Contains(sectionFlags(), flag.Name) {
				flags[strings.ReplaceAll(flag.Name, "-", "_")] = flag
			}
		}
	}
	return flags
}

// readPlatformFile reads a file for up, whose flags are those of the node.
func readPlatformFile(name string, up *kong.Node) (*platformFile, error) {
	data, err := readSettings(name, maxPlatformFile)
	if err != nil {
		return nil, usagef("%v", err)
	}
	p, f := scanPlatform(name, data, platformFlags(up))
	if err := platformMistakes(f, name); err != nil {
		return nil, err
	}
	return p, p.relativeTo(filepath.Dir(name))
}

// platformMistakes tells of all that is wrong with a file, as an error of its user.
func platformMistakes(f *yamlFile, name string) error {
	err := f.err(name)
	if err == nil {
		return nil
	}
	return withHint(&usageError{text: bus.AsError(err).Message, plain: true}, "docs/platform.md has all fields, and `skybus config schema` prints them for editors")
}

// parsePlatform reads a platform from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parsePlatform(file string, data []byte, flags map[string]*kong.Flag) (*platformFile, error) {
	p, f := scanPlatform(file, data, flags)
	return p, f.err(file)
}

// scanPlatform is parsePlatform that leaves what is wrong in f.
func scanPlatform(file string, data []byte, flags map[string]*kong.Flag) (p *platformFile, f *yamlFile) {
	f = &yamlFile{what: "platform"}
	p = &platformFile{flags: map[string]any{}}
	if body := f.read(data); body != nil {
		f.fields("", body, p.fields(f, filepath.Dir(file), flags))
	}
	return p, f
}

func (p *platformFile) fields(f *yamlFile, dir string, flags map[string]*kong.Flag) map[string]field {
	known := map[string]field{
		"mirror":  p.readMirror(f),
		"tcp":     p.readTCP(f),
		"files":   p.readFiles(f),
		"gateway": p.readGateway(f),
		"routes":  p.readRoutes(f),
		"config":  p.readConfig(f),
	}
	for name, flag := range flags {
		known[name] = p.readFlag(f, dir, flag)
	}
	return known
}

// readFlag reads what a flag is set to. Files and directories are those of the file's own directory, where they do not say.
func (p *platformFile) readFlag(f *yamlFile, dir string, flag *kong.Flag) field {
	local := func(text string) string {
		if (flag.PlaceHolder == "FILE" || flag.PlaceHolder == "DIR") && text != "" && text != "-" && !filepath.IsAbs(text) {
			return filepath.Join(dir, text)
		}
		return text
	}
	return func(path string, n ast.Node) {
		switch {
		case flag.IsBool():
			if v, ok := f.boolean(path, n); ok {
				p.flags[flag.Name] = v
			}
		case flag.IsSlice() && !isText(flag):
			var all []any
			for _, text := range f.texts(path, n, "values") {
				all = append(all, local(text))
			}
			p.flags[flag.Name] = all
		case flag.IsMap():
			p.flags[flag.Name] = f.pairs(path, n)
		default:
			if text := f.text(path, n); text != "" {
				p.flags[flag.Name] = local(text)
			}
		}
	}
}

// isText tells whether a flag's type reads itself from text.
func isText(flag *kong.Flag) bool {
	_, ok := reflect.TypeAssert[encoding.TextUnmarshaler](flag.Target.Addr())
	return ok
}

func (p *platformFile) readMirror(f *yamlFile) field {
	return func(path string, n ast.Node) {
		m := mirrorFile{yamlFile: f.part("mirror", path), s: &mirrorSetup{}}
		if m.mirror(n); len(m.mistakes) == 0 {
			m.validate()
		}
		f.take(&m.yamlFile)
		p.mirror = m.s
	}
}

func (p *platformFile) readTCP(f *yamlFile) field {
	return func(path string, n ast.Node) {
		part, s := f.part("list of listeners", path), &tcpSetup{}
		if part.fields("", n, s.fields(&part)); len(part.mistakes) == 0 {
			s.validate(&part, "")
		}
		f.take(&part)
		p.tcp = s
	}
}

func (p *platformFile) readFiles(f *yamlFile) field {
	return func(path string, n ast.Node) {
		part, s := f.part("list of sources", path), &filesSetup{}
		if part.fields("", n, s.fields(&part)); len(part.mistakes) == 0 {
			s.validate(&part, "")
		}
		f.take(&part)
		p.files = s
	}
}

func (p *platformFile) readGateway(f *yamlFile) field {
	return func(path string, n ast.Node) {
		part := entryFile{yamlFile: f.part("gateway", path)}
		part.fields("", n, map[string]field{
			"entries": func(path string, n ast.Node) { p.entries = part.entries(path, n) },
			"access": func(path string, n ast.Node) {
				of := entryFile{yamlFile: part.part("list of who may use a gateway", path)}
				a := of.access(n)
				if p.accessWrong = len(of.mistakes) > 0; !p.accessWrong {
					p.access = &a
				}
				part.take(&of.yamlFile)
			},
		})
		f.take(&part.yamlFile)
	}
}

func (p *platformFile) readRoutes(f *yamlFile) field {
	return func(path string, n ast.Node) {
		object, ok := f.value(n).(ast.MapNode)
		if !ok {
			f.mistake(lineOf(n), path, "want routes by their names, as in order: {steps: [{service: orders, endpoint: create}]}")
			return
		}
		for fields := object.MapRange(); fields.Next(); {
			name := fields.Key().GetToken().Value
			if err := bus.CheckToken("route", name); err != nil {
				f.mistake(lineOf(fields.Key()), path, "%s", message(err))
			}
			part := routeFile{yamlFile: f.part("route", path+"."+name)}
			r := part.route(fields.Value())
			if len(part.mistakes) == 0 {
				part.validate(r)
			}
			f.take(&part.yamlFile)
			p.routes = append(p.routes, namedRoute{name, r})
		}
	}
}

// readConfig reads values that stand below those of the bucket, as services read them from the same file.
func (p *platformFile) readConfig(f *yamlFile) field {
	return func(path string, n ast.Node) {
		all := entryFile{yamlFile: f.part("configuration", path)}
		data, err := json.Marshal(map[string]any{path: all.plain("", n)})
		if err == nil {
			p.config, err = file.Parse(data)
		}
		if f.take(&all.yamlFile); err != nil {
			f.mistake(lineOf(n), path, "%s", message(err))
		}
	}
}

// relativeTo takes the files that sections name for those of a directory, where they do not say.
func (p *platformFile) relativeTo(dir string) error {
	if p.mirror != nil {
		p.mirror.relativeTo(dir)
	}
	if p.tcp != nil {
		p.tcp.relativeTo(dir)
	}
	if p.access != nil {
		p.access.relativeTo(dir)
	}
	if p.files != nil {
		return p.files.resolve(dir)
	}
	return nil
}

// platformFileFlag is the name of a platform's file. What the file says counts less than flags and the environment.
type platformFileFlag string

// BeforeResolve reads the file, once the flags of the command line are known.
func (platformFileFlag) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	name, ok := ctx.FlagValue(trace.Flag).(platformFileFlag)
	node := ctx.Selected()
	up, is := reflect.TypeAssert[*upCmd](node.Target.Addr())
	if !ok || !is {
		return fmt.Errorf("--%s is a flag of up", trace.Flag.Name)
	}
	p, err := readPlatformFile(string(name), node)
	if err != nil {
		return err
	}
	up.platform, up.platformAccess = p, p.access
	ctx.AddResolver(kong.ResolverFunc(func(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if saidElsewhere(ctx, flag) {
			return nil, nil //nolint:nilnil // kong's way to say that it is not known here
		}
		return p.flags[flag.Name], nil
	}))
	return nil
}

// saidElsewhere tells whether the environment says what a flag is set to, or the command line has another flag that takes its place.
func saidElsewhere(ctx *kong.Context, flag *kong.Flag) bool {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return true
		}
	}
	for _, path := range ctx.Path {
		if given := path.Flag; given != nil && slices.ContainsFunc(given.Xor, func(group string) bool { return slices.Contains(flag.Xor, group) }) {
			return true
		}
	}
	return false
}
