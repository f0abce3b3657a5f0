package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
	"github.com/skybus-io/skybus/micro"
)

type filesCmd struct {
	Run    filesRunCmd    `cmd:"" default:"withargs" help:"Send the records of files to services, routes, subjects and streams."`
	Ls     filesLsCmd     `cmd:"" help:"List the sources, who works on them, and how far their files are."`
	Forget filesForgetCmd `cmd:"" help:"Forget how far the files of a source are."`
}

// fileFlags are a source without a file that describes it.
type fileFlags struct {
	Dir       string        `help:"Directory whose files are sent." placeholder:"DIR" group:"source" env:"-" xor:"place"`
	Follow    string        `help:"File that is sent as it grows, through its rotation." placeholder:"FILE" group:"source" env:"-" xor:"place"`
	Name      string        `help:"Name of the source: processes with the same one share the work. Default: made of this host and the path." placeholder:"NAME" group:"source" env:"-"`
	Format    string        `help:"lines, csv (with a header), ndjson or whole." enum:",lines,csv,ndjson,whole" default:"" placeholder:"FORMAT" group:"source" env:"-"`
	Include   []string      `help:"Only files that match this pattern, such as *.csv; may be repeated." placeholder:"PATTERN" group:"source" env:"-"`
	Exclude   []string      `help:"Leave out files that match this pattern. Default: .*, *~, *.tmp and *.part." placeholder:"PATTERN" group:"source" env:"-"`
	Recursive bool          `help:"Look into the directories in it too." group:"source" env:"-"`
	FromEnd   bool          `help:"Begin at the present end of a file that was never followed before." group:"source" env:"-"`
	Comma     string        `help:"What stands between the columns of CSV." placeholder:"CHAR" group:"source" env:"-"`
	MaxRecord byteSize      `help:"Largest record; larger ones are put aside. Default: 1MiB." placeholder:"SIZE" group:"source" env:"-"`
	Parallel  int           `help:"How many records are sent at once. Default: 1, in order." placeholder:"N" group:"source" env:"-"`
	Window    int           `help:"How many records may come again when the process dies. Default: 1000." placeholder:"N" group:"source" env:"-"`
	Quiet     time.Duration `help:"How long a file must not have changed before it is read. Default: 2s." placeholder:"DURATION" group:"source" env:"-"`
	After     string        `help:"What becomes of finished files: move (to done/, the default), delete or leave." enum:",move,delete,leave" default:"" placeholder:"WHAT" group:"source" env:"-"`
	Tries     int           `help:"How often a record is sent before it is put aside. Default: until it is taken." placeholder:"N" group:"source" env:"-"`
	Once      bool          `help:"Stop when everything that is there now was sent." group:"source" env:"-"`

	Call    string `help:"Endpoint that is called with each record." placeholder:"SERVICE.ENDPOINT" group:"to" env:"-" xor:"to"`
	Route   string `help:"Route that is run with each record." placeholder:"NAME" group:"to" env:"-" xor:"to"`
	Publish string `help:"Subject that each record is published to." placeholder:"SUBJECT" group:"to" env:"-" xor:"to"`
	Stream  string `help:"The same, and wait until a stream has stored it." placeholder:"SUBJECT" group:"to" env:"-" xor:"to"`
}

// setup is the source that the flags describe.
func (c *fileFlags) setup(app *App) (*filesSetup, error) {
	src := fileSource{
		Config: file.Config{
			Name: c.Name, Dir: c.Dir, Follow: c.Follow, Format: file.Format(c.Format), Include: c.Include, Exclude: c.Exclude, Recursive: c.Recursive,
			FromEnd: c.FromEnd, MaxRecord: int(c.MaxRecord), Parallel: c.Parallel, Window: c.Window, Quiet: c.Quiet, After: file.After(c.After),
			Tries: c.Tries, Once: c.Once,
		},
		Target: initiators.Spec{Call: c.Call, Route: c.Route, Publish: c.Publish, Stream: c.Stream},
	}
	if c.Quiet == 0 && app.given["quiet"] {
		src.Quiet = -1
	}
	if c.Comma != "" {
		if c.Comma == `\t` {
			c.Comma = "\t"
		}
		if len(c.Comma) != 1 {
			return nil, usagef("--comma %.40q: want one character", c.Comma)
		}
		src.Comma = rune(c.Comma[0])
	}
	s := &filesSetup{Sources: []fileSource{src}}
	if err := s.resolve(""); err != nil {
		return nil, err
	}
	if src := &s.Sources[0]; src.Name == "" {
		name, err := defaultSourceName(cmp.Or(src.Dir, src.Follow))
		if err != nil {
			return nil, err
		}
		src.Name = name
	}
	if err := s.Sources[0].Validate(); err != nil {
		name, text := fileMistake(err)
		return nil, usagef("--%s: %s", strings.ReplaceAll(strings.TrimPrefix(name, "retry."), "_", "-"), text)
	}
	if err := s.Sources[0].Target.Validate(); err != nil {
		return nil, withHint(usagef("%s", message(err)), "--call, --route, --publish or --stream says what the records are sent to")
	}
	return s, nil
}

// defaultSourceName is the same for all processes of this host that work on path, and another one on another host.
func defaultSourceName(path string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", withHint(err, "--name names the source")
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	sum := sha256.Sum256([]byte(host + "\x00" + path))
	base := tokenOf(filepath.Base(path))
	return base[:min(len(base), 40)] + "-" + hex.EncodeToString(sum[:4]), nil
}

type filesRunCmd struct {
	File string `short:"f" help:"YAML or JSON file with the sources." placeholder:"FILE" env:"SKYBUS_FILES_FILE"`
	Test bool   `short:"t" help:"Check the file and the flags, and stop." env:"-"`

	PublishPrefix []string `help:"What subjects begin with that records may be published to, besides what the file allows; may be repeated. Default: APP.ENV.pub." placeholder:"PREFIX"`

	fileFlags
	partFlags
}

// Help is shown below the usage.
func (*filesRunCmd) Help() string {
	return `Each record of each file is sent once the file is complete (or, with --follow, the record is), in order, and again until it was taken;
what is refused is put into failed/ with the reason beside it. How far files are is kept in the bucket skybus_files: a process that dies loses nothing,
and the next one repeats at most --window records, with the same Idempotency-Key. Run as many as you like: one works, another takes over.

A file describes several sources, and all there is to set (docs/files.md):

    sources:
      - name: orders
        dir: /var/spool/orders
        format: ndjson
        target: {call: orders.create}

Examples:

    skybus files -f files.yaml
    skybus files --dir /var/spool/orders --format ndjson --call orders.create
    skybus files --dir in --include '*.csv' --format csv --stream default.dev.pub.rows --once
    skybus files --follow /var/log/app.log --call logs.line --parallel 16
    skybus files -f files.yaml --test`
}

// Validate finds the mistakes that need no look at the machine.
func (c *filesRunCmd) Validate() error { return c.check() }

func (*filesRunCmd) daemon() {}

// setup is what the file or the flags say.
func (c *filesRunCmd) setup(ctx context.Context, app *App) (*filesSetup, error) {
	flags := c.Dir != "" || c.Follow != ""
	switch {
	case c.File != "" && flags:
		return nil, usagef("--file describes the sources; --dir and --follow are for a source without a file")
	case flags:
		return c.fileFlags.setup(app)
	case c.File == "":
		return nil, withHint(usagef("want -f FILE, --dir DIR or --follow FILE"), "`skybus files --help` has examples")
	}
	s, err := readFilesFile(ctx, app, c.File)
	if err != nil {
		return nil, err
	}
	for i := range s.Sources {
		s.Sources[i].Once = s.Sources[i].Once || c.Once
	}
	return s, s.resolve(filepath.Dir(c.File))
}

// Run sends records until ctx ends, or with --once until there are no more.
func (c *filesRunCmd) Run(ctx context.Context, app *App) error {
	s, err := c.setup(ctx, app)
	if err != nil {
		return err
	}
	for _, p := range c.PublishPrefix {
		s.PublishPrefixes = append(s.PublishPrefixes, subjectPrefix(p))
	}
	if c.Test {
		return s.report(app, c.File)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	failed := make(chan error, len(s.Sources))
	err = c.run(ctx, app, part{name: "files", serve: func(ctx context.Context, p *platform) error {
		_, runner, err := p.startRunner(ctx, app, micro.ClientConfig{Name: "files"})
		if err != nil {
			return err
		}
		bar := newProgress(app, "records", 1) // how much there is turns up later
		log := slog.New(clearing{p.conn.Logger().Handler(), bar})
		from := p.sources(p.client, runner, s.PublishPrefixes)
		if err := s.start(ctx, p, from, log, func(err error) { failed <- err }, func() { stop(errAllSent) }); err != nil {
			return err
		}
		p.run(ctx, func(ctx context.Context) error { showFiles(ctx, bar, p.files); return nil })
		return nil
	}})
	close(failed) // all have ended
	for why := range failed {
		err = errors.Join(err, why)
	}
	return err
}

// report says that nothing is wrong.
func (s *filesSetup) report(app *App, name string) error {
	type checked struct {
		Name   string `json:"name"`
		Place  string `json:"place"`
		Format string `json:"format"`
		Target string `json:"target"`
	}
	var all []checked
	for _, src := range s.Sources {
		all = append(all, checked{src.Name, cmp.Or(src.Dir, src.Follow), cmp.Or(string(src.Format), string(file.Lines)), src.Target.String()})
	}
	if name != "" {
		app.note("%s: no mistake in it", name)
	}
	return printList(app, all, []string{"source", "place", "format", "target"}, func(c checked) []any {
		return []any{c.Name, c.Place, c.Format, c.Target}
	})
}

// errAllSent ends a run with --once.
var errAllSent = bus.Errorf(bus.Canceled, "all that was there was sent")

// showFiles keeps the bar until ctx ends.
func showFiles(ctx context.Context, bar *progress, all []*file.Source) {
	defer bar.end()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var records, bytes int64
	for {
		var n, done, size int64
		for _, s := range all {
			stats := s.Stats()
			n += int64(stats.Sent + stats.Refused)  //nolint:gosec // far below
			done += int64(stats.Bytes)              //nolint:gosec // far below
			size += int64(stats.Bytes) + stats.Left //nolint:gosec // far below
		}
		if n != records || done != bytes {
			bar.of(size)
			bar.read(done - bytes)
			bar.add(n - records)
			records, bytes = n, done
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clearing is a log that takes the bar away before each line.
type clearing struct {
	slog.Handler

	bar *progress
}

// Handle logs a line.
func (h clearing) Handle(ctx context.Context, r slog.Record) error {
	h.bar.clear()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the bar.
func (h clearing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return clearing{h.Handler.WithAttrs(attrs), h.bar}
}

// WithGroup keeps the bar.
func (h clearing) WithGroup(name string) slog.Handler {
	return clearing{h.Handler.WithGroup(name), h.bar}
}
