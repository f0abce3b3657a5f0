package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
)

const (
	maxFilesFile   = 1 << 20
	maxFileSources = 1000
)

// filesSetup is what a file, or flags, say about sources of files: the whole of files.yaml, or the section files of the file of a platform.
type filesSetup struct {
	Sources []fileSource
	// PublishPrefixes are what subjects may begin with that targets publish to. None means APP.ENV.pub. alone.
	PublishPrefixes []string
}

// fileSource is a source and what its records are sent to.
type fileSource struct {
	file.Config

	PerHost bool // each host works on a directory of its own by that name
	Target  initiators.Spec
}

// readFilesFile reads a file with sources.
func readFilesFile(ctx context.Context, app *App, name string) (*filesSetup, error) {
	data, err := app.readFile(ctx, name)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, usagef("%s", message(err))
	}
	if err != nil {
		return nil, err
	}
	if len(data) > maxFilesFile {
		return nil, usagef("%s has more than %d bytes", name, maxFilesFile)
	}
	s, err := parseFiles(name, data)
	if err != nil {
		return nil, withHint(usagef("%s", message(err)), "docs/files.md has all fields; `skybus files run --test -f %s` checks it", name)
	}
	return s, nil
}

// parseFiles reads sources from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parseFiles(name string, data []byte) (*filesSetup, error) {
	f := &yamlFile{what: "list of sources"}
	s := &filesSetup{}
	if body := f.read(data); body != nil {
		f.fields("", body, s.fields(f))
	}
	if len(f.mistakes) == 0 {
		s.validate(f, "")
	}
	return s, f.err(name)
}

// fields are those of a section with sources.
func (s *filesSetup) fields(f *yamlFile) map[string]field {
	return map[string]field{
		"publish_prefixes": func(path string, n ast.Node) {
			for _, p := range f.texts(path, n, "prefixes") {
				s.PublishPrefixes = append(s.PublishPrefixes, subjectPrefix(p))
			}
		},
		"sources": func(path string, n ast.Node) {
			f.list(path, n, "sources", func(path string, n ast.Node) {
				var src fileSource
				f.fields(path, n, src.fields(f))
				s.Sources = append(s.Sources, src)
			})
		},
	}
}

func (s *fileSource) fields(f *yamlFile) map[string]field {
	texts := func(v *[]string, what string) field {
		return func(path string, n ast.Node) { *v = f.texts(path, n, what) }
	}
	all := s.formatFields(f)
	maps.Copy(all, map[string]field{
		"name":       textInto(f, &s.Name),
		"per_host":   flagInto(f, &s.PerHost),
		"dir":        textInto(f, &s.Dir),
		"follow":     textInto(f, &s.Follow),
		"from_end":   flagInto(f, &s.FromEnd),
		"rotated":    texts(&s.Rotated, "patterns"),
		"include":    texts(&s.Include, "patterns"),
		"exclude":    texts(&s.Exclude, "patterns"),
		"recursive":  flagInto(f, &s.Recursive),
		"order":      textInto(f, &s.Order),
		"parallel":   countInto(f, &s.Parallel),
		"window":     countInto(f, &s.Window),
		"checkpoint": timeInto(f, &s.Checkpoint),
		"rescan":     timeInto(f, &s.Rescan),
		"after":      textInto(f, &s.After),
		"done":       textInto(f, &s.Done),
		"failed":     textInto(f, &s.Failed),
		"forget":     timeInto(f, &s.Forget),
		"timeout":    timeInto(f, &s.Timeout),
		"once":       flagInto(f, &s.Once),
		"lease":      timeInto(f, &s.Lease),
		"drain":      timeInto(f, &s.Drain),
		"target":     f.target(&s.Target),
		"quiet": func(path string, n ast.Node) {
			if s.Quiet = f.duration(path, n); s.Quiet == 0 {
				s.Quiet = -1 // 0s is said, and the default is not meant
			}
		},
		"retry": f.section(map[string]field{
			"tries": countInto(f, &s.Tries),
			"first": timeInto(f, &s.RetryFirst),
			"last":  timeInto(f, &s.RetryLast),
			"codes": func(path string, n ast.Node) {
				for _, code := range f.texts(path, n, "codes") {
					s.RetryCodes = append(s.RetryCodes, bus.Code(code))
				}
			},
		}),
	})
	return all
}

func (s *fileSource) formatFields(f *yamlFile) map[string]field {
	return map[string]field{
		"format":       textInto(f, &s.Format),
		"columns":      func(path string, n ast.Node) { s.Columns = f.texts(path, n, "names") },
		"content_type": textInto(f, &s.ContentType),
		"max_record":   sizeInto(f, &s.MaxRecord),
		"comma": func(path string, n ast.Node) {
			text := f.text(path, n)
			if text == `\t` {
				text = "\t"
			}
			r, size := utf8.DecodeRuneInString(text)
			if size != len(text) || size == 0 {
				f.mistake(lineOf(n), path, `%.40q: want one character such as ";", or "\t"`, text)
				return
			}
			s.Comma = r
		},
	}
}

// validate finds what is wrong with sources that can be read. path is that of their section.
func (s *filesSetup) validate(f *yamlFile, path string) {
	list := strings.TrimPrefix(path+".sources", ".")
	switch {
	case len(s.Sources) == 0:
		f.mistake(f.lineOf(path), list, "there are none: want one or more")
	case len(s.Sources) > maxFileSources:
		f.mistake(f.lineOf(list), list, "%d of them, at most %d are taken", len(s.Sources), maxFileSources)
	}
	for i := range s.Sources {
		src := &s.Sources[i]
		at := fmt.Sprintf("%s[%d]", list, i)
		if err := src.Validate(); err != nil {
			name, text := fileMistake(err)
			f.mistake(f.lineOf(at+"."+name), at+"."+name, "%s", text)
		}
		f.checkTarget(at+".target", src.Target, src.hasValue, src.wantValues())
		if first := slices.IndexFunc(s.Sources[:i], func(other fileSource) bool { return other.Name == src.Name }); first >= 0 {
			f.mistake(f.lineOf(at+".name"), at+".name", "%q is there already, as %s[%d]", src.Name, list, first)
		}
	}
}

// hasValue tells whether a placeholder may stand for something of a record.
func (s *fileSource) hasValue(name string) bool {
	switch name {
	case "file", "offset", "number":
		return true
	case "line":
		return s.Format != file.Whole
	}
	member, ok := strings.CutPrefix(name, "record.")
	switch {
	case !ok || s.Format != file.CSV && s.Format != file.NDJSON:
		return false
	case s.Format == file.CSV && len(s.Columns) > 0:
		return slices.Contains(s.Columns, member)
	}
	return member != ""
}

// wantValues are the placeholders of the source's format, for people.
func (s *fileSource) wantValues() string {
	const all = "{file}, {offset}, {number}, {body.NAME} or {id}"
	switch s.Format {
	case file.CSV:
		return "{record.COLUMN}, {line}, " + all
	case file.NDJSON:
		return "{record.MEMBER}, {line}, " + all
	case file.Whole:
		return all
	case file.Lines:
	}
	return "{line}, " + all
}

// fileMistake is what is wrong with a file.Config, and how a file calls the field.
func fileMistake(err error) (field, text string) {
	e := bus.AsError(err)
	name := e.Details["field"]
	return fileField(name), strings.TrimLeft(strings.TrimPrefix(e.Message, name), ": ")
}

// fileField is how a file calls a field of file.Config.
func fileField(name string) string {
	if retry, ok := strings.CutPrefix(name, "Retry"); ok {
		return "retry." + strings.ToLower(retry)
	}
	switch name {
	case "Tries":
		return "retry.tries"
	case "FromEnd":
		return "from_end"
	case "MaxRecord":
		return "max_record"
	case "ContentType":
		return "content_type"
	}
	return strings.ToLower(name)
}

// resolve makes paths that are relative to the file absolute, and names those of this host where each has its own.
func (s *filesSetup) resolve(base string) error {
	for i := range s.Sources {
		src := &s.Sources[i]
		for _, path := range []*string{&src.Dir, &src.Follow} {
			if *path == "" || filepath.IsAbs(*path) {
				continue
			}
			abs, err := filepath.Abs(filepath.Join(base, *path))
			if err != nil {
				return err
			}
			*path = abs
		}
		if !src.PerHost {
			continue
		}
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("per_host: %w", err)
		}
		src.Name += "-" + tokenOf(host)
		if err := bus.CheckToken("name", src.Name); err != nil {
			return usagef("per_host: %s", message(err))
		}
	}
	return nil
}

// tokenOf is text with what a token cannot have replaced.
func tokenOf(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, text)
}

// start makes the sources with their targets, and runs them until the platform is closed. failed is told why one that is read once has failed, and
// over that all have ended by themselves. PublishPrefixes are to be among those of from.
func (s *filesSetup) start(ctx context.Context, p *platform, from initiators.Sources, log *slog.Logger, failed func(error), over func()) error {
	drain := time.Duration(0)
	for _, src := range s.Sources {
		target, err := from.Target(src.Target)
		if err != nil {
			return withHint(usagef("source %s: %s", src.Name, message(err)), "--publish-prefix, or publish_prefixes of the file, allows others")
		}
		cfg := src.Config
		if err := checkPlace(cfg); err != nil {
			return err
		}
		cfg.Logger = log
		made, err := file.New(p.conn, target, cfg)
		if err != nil {
			return err
		}
		p.files = append(p.files, made)
		drain = max(drain, cmp.Or(src.Drain, file.DefaultDrain))
	}
	all := p.files
	p.take(ctx, drain, func(ctx context.Context) error {
		if err := s.run(ctx, all, failed); err != nil || ctx.Err() != nil {
			return err
		}
		over()
		<-ctx.Done()
		return nil
	})
	return nil
}

// checkPlace tells whether the directory of a source is there, before anything says that it is ready.
func checkPlace(cfg file.Config) error {
	dir := cfg.Dir
	if cfg.Follow != "" {
		dir = filepath.Dir(cfg.Follow)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withHint(bus.Errorf(bus.NotFound, "source %s: there is no directory %s", cfg.Name, dir), "make it first, as with mkdir -p")
	case err == nil && !info.IsDir():
		return bus.Errorf(bus.FailedPrecondition, "source %s: %s is not a directory", cfg.Name, dir)
	}
	return err
}

// run runs all sources until all have ended. One that is read once and fails is no matter of the others, any other ends them.
func (s *filesSetup) run(ctx context.Context, all []*file.Source, failed func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	errs := make(chan error, len(all))
	for i, source := range all {
		running.Go(func() {
			err := source.Run(ctx)
			switch {
			case err == nil:
			case s.Sources[i].Once && ctx.Err() == nil:
				failed(err)
			default:
				errs <- err
				cancel(err)
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs // nil where there is none
}
