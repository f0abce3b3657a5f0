package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const (
	maxTimerLine = 1 << 20
	linesAhead   = 1024 // that were read, and wait to be sent
)

type timersImportCmd struct {
	File         string   `arg:"" help:"File with a timer a line, as JSON, or - for standard input."`
	SkipExisting bool     `help:"A timer that is there already is no failure." env:"-"`
	FromLine     int      `help:"Begin with this line." default:"1" env:"-"`
	Transport    []string `help:"Further transports of your own that the schedulers were given." placeholder:"NAME" env:"-"`

	guardFlags
}

// Help is shown below the usage.
func (*timersImportCmd) Help() string {
	return `A line is what POST /v1/timers takes, the same as skybus timers export writes. A line that fails is told on stderr and does not end
the rest; then it ends with 1. The server stores thousands of lines at a time.

Examples:

    skybus timers import timers.ndjson
    skybus timers export --server nats://old.example.org | skybus timers import - --skip-existing
    echo '{"after":"30s","target":{"uri":"https://example.org/hook"},"payload":{"invoice":7}}' | skybus timers import -`
}

// importLine is a line that was read, or why there are no more.
type importLine struct {
	n    int
	text []byte
	err  error
}

// timerImport is an import under way.
type timerImport struct {
	app     *App
	bar     *progress
	from    int
	skip    bool // of what is there already
	sent    chan int
	mu      sync.Mutex // guards what follows, and stderr
	created int
	failed  int
	skipped int
	broken  error // the input could not be read on
}

// Run makes the timers.
func (c *timersImportCmd) Run(ctx context.Context, app *App) error {
	in, size, err := c.open(app)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	cfg := c.config(c.Transport...)
	im := &timerImport{app: app, bar: newProgress(app, "timers", size), from: c.FromLine, skip: c.SkipExisting, sent: make(chan int, linesAhead)}
	err = app.withTimers(ctx, cfg, func(ctx context.Context, s *scheduler.Scheduler) error { return im.run(ctx, s, in) })
	im.bar.end()
	if err != nil && im.created+im.failed+im.skipped == 0 {
		return err
	}
	v := map[string]int{"created": im.created, "failed": im.failed}
	rows := [][]any{{"created", im.created}, {"failed", im.failed}}
	if c.SkipExisting {
		v["skipped"], rows = im.skipped, append(rows, []any{"skipped", im.skipped})
	}
	err = errors.Join(printOne(app, v, rows), err)
	if err == nil && im.failed > 0 {
		err = fmt.Errorf("%s failed", plural(im.failed, "line"))
	}
	return err
}

// open opens the file, and tells its size, 0 where that is not known.
func (c *timersImportCmd) open(app *App) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(app.stdin), 0, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, 0, nil //nolint:nilerr // there is no size, and what else is wrong shows when it is read
	}
	return f, info.Size(), nil
}

// run creates the timers of in.
func (im *timerImport) run(ctx context.Context, s *scheduler.Scheduler, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan importLine, linesAhead)
	go readLines(ctx, in, lines) // nobody waits for it after an interrupt: a terminal may never end what is read
	last := 0
	for t, err := range s.CreateMany(ctx, func(yield func(scheduler.Spec) bool) { im.each(ctx, lines, yield) }) {
		if ctx.Err() != nil {
			break
		}
		last = <-im.sent
		im.count(last, t, err)
		if hopeless(err) {
			cancel() // or CreateMany would wait for lines that nobody takes, or that never come
			return withHint(fmt.Errorf("stopped at line %d: %w", last, err), "--from-line %d goes on where it stopped", last)
		}
	}
	if ctx.Err() != nil {
		return withHint(context.Cause(ctx), "line %d was the last one that was stored for sure", last)
	}
	return im.broken
}

// hopeless tells whether all the other lines would fail as this one did.
func hopeless(err error) bool {
	switch e := bus.AsError(err); {
	case err == nil:
		return false
	case e.Code == bus.PermissionDenied:
		return e.Details["field"] == "" // else it is the target that is not allowed
	default:
		return e.Code == bus.Unavailable || e.Code == bus.DeadlineExceeded || e.Code == bus.Canceled || e.Status == 507
	}
}

// each yields the timers of the lines.
func (im *timerImport) each(ctx context.Context, lines <-chan importLine, yield func(scheduler.Spec) bool) {
	for {
		var line importLine
		select {
		case line = <-lines:
		case <-ctx.Done():
			return
		}
		if errors.Is(line.err, io.EOF) {
			return
		}
		im.bar.read(int64(len(line.text)) + 1)
		if line.n < im.from && line.err == nil {
			continue
		}
		if line.err != nil && !errors.Is(line.err, errLongLine) {
			im.broken = line.err
			return
		}
		var spec scheduler.Spec
		text, err := bytes.TrimSpace(line.text), line.err
		if err == nil && len(text) == 0 {
			continue
		}
		if err == nil {
			spec, err = httpapi.ParseTimer(text)
		}
		if err != nil {
			im.count(line.n, scheduler.Timer{}, err)
			continue
		}
		select {
		case im.sent <- line.n:
		case <-ctx.Done():
			return
		}
		if !yield(spec) {
			return
		}
	}
}

// count notes what came of a line.
func (im *timerImport) count(line int, _ scheduler.Timer, err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	switch {
	case err == nil:
		im.created++
	case im.skip && bus.CodeOf(err) == bus.AlreadyExists:
		im.skipped++
	default:
		im.failed++
		im.bar.clear()
		fmt.Fprintf(im.app.stderr, "line %d: %s\n", line, printable(message(err)))
	}
	im.bar.add(1)
}

var errLongLine = fmt.Errorf("it has more than %d bytes", maxTimerLine)

// readLines sends the lines of in, and then how it ended.
func readLines(ctx context.Context, in io.Reader, lines chan<- importLine) {
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		text, err := readLine(r)
		if len(text) == 0 && err != nil || errors.Is(err, errLongLine) {
			text = nil
		} else if errors.Is(err, io.EOF) {
			err = nil // the last line has no end
		}
		select {
		case lines <- importLine{n, text, err}:
		case <-ctx.Done():
			return
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return
		}
	}
}

// readLine reads a line without its end. Of one that is too long nothing is kept.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxTimerLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case long && (err == nil || errors.Is(err, io.EOF)):
			return nil, errLongLine
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}
