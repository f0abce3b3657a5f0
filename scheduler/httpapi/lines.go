package httpapi

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/restapi"
	"github.com/skybus-io/skybus/scheduler"
)

const (
	// maxAhead is how many lines may be read ahead of their results.
	maxAhead = 4096
	// linePause is how long either side of a stream may keep the other one waiting.
	linePause = httpx.ReadTimeout
	// flushDelay is how long a result may wait for others.
	flushDelay = 2 * time.Millisecond
	// lineBuffer is how much of a stream is read ahead.
	lineBuffer = 64 << 10
)

// lineResult is the answer to one line.
type lineResult struct {
	Line     int       `json:"line"` // counted from 1, empty ones too
	Status   int       `json:"status"`
	ID       string    `json:"id,omitempty"`
	Revision uint64    `json:"revision,omitempty"`
	Due      time.Time `json:"due,omitzero"`
	// What is wrong with it, as a problem says it.
	Code    string             `json:"code,omitempty"`
	Detail  string             `json:"detail,omitempty"`
	Errors  []httpx.FieldError `json:"errors,omitempty"`
	Details map[string]string  `json:"details,omitempty"`
}

func showLine(ctx context.Context, line int, m lineMade) lineResult {
	if m.err != nil {
		p := restapi.Problem(ctx, m.err)
		return lineResult{Line: line, Status: p.Status, Code: p.Code, Detail: p.Detail, Errors: p.Errors, Details: p.Details}
	}
	return lineResult{Line: line, Status: http.StatusCreated, ID: m.timer.ID, Revision: m.timer.Revision, Due: utc(m.timer.Due)}
}

// lines is a stream of timers under way: one goroutine reads and creates, the handler's writes what came of them.
type lines struct {
	h     *Handler
	rc    *http.ResponseController
	read  chan lineRead   // in the order of the lines
	made  chan lineMade   // what came of those without an error, in the same order
	ended chan struct{}   // closed when there will be no more of both
	stop  <-chan struct{} // closed when the server stops
}

// lineRead is a line that was read: a timer to be made, or an error.
type lineRead struct {
	line int
	err  error
}

// lineMade is what came of a timer.
type lineMade struct {
	timer scheduler.Timer
	err   error
}

// postLines creates timers as they come and answers each line with one line. A line that is wrong ends nothing; when the client
// goes, or the server stops, the rest is not taken.
func (h *Handler) postLines(w http.ResponseWriter, r *http.Request) error {
	// The request's own context ends with the first read that fails, and what was read before is to be answered.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	s := &lines{
		h: h, rc: http.NewResponseController(w), read: make(chan lineRead, maxAhead), made: make(chan lineMade),
		ended: make(chan struct{}), stop: httpx.Stopping(ctx),
	}
	_ = s.rc.EnableFullDuplex() // HTTP/2 is so anyway
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("Cache-Control", "no-store")
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() { s.create(ctx, r.Body) })
	both.Go(func() { s.hurry(ctx) })
	out := results{rc: s.rc, w: w}
	if !s.write(ctx, &out) {
		cancel()
	}
	return nil
}

// hurry ends the wait for the next line when the server stops, or the client is gone.
func (s *lines) hurry(ctx context.Context) {
	select {
	case <-s.stop:
	case <-ctx.Done():
	case <-s.ended:
		return // the connection may have another request
	}
	_ = s.rc.SetReadDeadline(time.Unix(1, 0)) // where that is not possible, the wait has its end
}

// create makes the timers of body and tells what came of them.
func (s *lines) create(ctx context.Context, body io.Reader) {
	defer close(s.ended)
	defer close(s.read)
	defer close(s.made)
	specs := func(yield func(scheduler.Spec) bool) { s.each(ctx, body, yield) }
	for t, err := range s.h.timers.CreateMany(ctx, specs) {
		select {
		case s.made <- lineMade{t, err}:
		case <-ctx.Done():
			return
		}
	}
}

// each yields the timers of body until it ends.
func (s *lines) each(ctx context.Context, body io.Reader, yield func(scheduler.Spec) bool) {
	in := bufio.NewReaderSize(&pacedReader{ctx, s, body}, lineBuffer)
	for line := 1; ; line++ {
		text, err := s.line(in)
		text = bytes.TrimSpace(text)
		var spec scheduler.Spec
		last := err != nil && !errors.Is(err, errTooLong)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err == nil && len(text) > 0 {
			spec, err = parseSpec(text)
		}
		if err != nil || len(text) > 0 {
			select {
			case s.read <- lineRead{line, s.h.lineError(err)}:
			case <-ctx.Done():
				return
			}
			if err == nil && !yield(spec) {
				return
			}
		}
		if last {
			return
		}
	}
}

var errTooLong = errors.New("line too long")

// line reads a line, which is good until the next call. What is left of one that is too long is skipped.
func (s *lines) line(in *bufio.Reader) ([]byte, error) {
	text, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return text, err
	}
	long := bytes.Clone(text)
	for errors.Is(err, bufio.ErrBufferFull) {
		text, err = in.ReadSlice('\n')
		if int64(len(long)+len(text)) <= s.h.cfg.MaxBody {
			long = append(long, text...)
			continue
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = errTooLong // after which an end is found again
		}
		return nil, err
	}
	return long, err
}

func (h *Handler) lineError(err error) error {
	if errors.Is(err, errTooLong) {
		return tooLarge(h.cfg.MaxBody)
	}
	if _, ok := errors.AsType[*bus.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*restapi.InputError](err); ok {
		return err
	}
	return h.bodyError(err)
}

// pacedReader gives the client some time for each part of its stream, whatever the server gave it for the whole request.
type pacedReader struct {
	ctx  context.Context //nolint:containedctx // of the request whose body it reads
	s    *lines
	body io.Reader
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.s.rc.SetReadDeadline(time.Now().Add(linePause)) // where that is not possible, the server's holds
	// In this order, so that hurry is not undone.
	if err := p.over(); err != nil {
		return 0, err
	}
	n, err := p.body.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = cmp.Or(p.over(), err)
	}
	return n, err
}

// over tells why nothing more is read.
func (p *pacedReader) over() error {
	select {
	case <-p.s.stop:
		return bus.Errorf(bus.Unavailable, "this listener stops; this line and all after it were not taken")
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	default:
		return nil
	}
}

// write writes what comes of the lines, as it comes. False means that the client takes no more.
func (s *lines) write(ctx context.Context, out *results) bool {
	for {
		r, ok := receive(ctx, out, s.read)
		if !ok {
			break
		}
		m := lineMade{err: r.err}
		if r.err == nil {
			if m, ok = receive(ctx, out, s.made); !ok {
				break
			}
		}
		if !out.write(showLine(ctx, r.line, m)) {
			return false
		}
	}
	return out.flush() && ctx.Err() == nil
}

// receive takes the next value. While there is none it sends what was written.
func receive[T any](ctx context.Context, out *results, from <-chan T) (v T, ok bool) {
	select {
	case v, ok = <-from:
		return v, ok
	default:
	}
	if out.pending {
		soon := time.NewTimer(flushDelay)
		defer soon.Stop()
		select {
		case v, ok = <-from:
			return v, ok
		case <-soon.C:
			if !out.flush() {
				return v, false
			}
		}
	}
	select {
	case v, ok = <-from:
	case <-ctx.Done():
	}
	return v, ok
}

// results is the answer to a stream.
type results struct {
	rc      *http.ResponseController
	w       io.Writer
	until   time.Time // when the deadline for writing is moved next
	pending bool      // something is written and not sent
}

func (o *results) write(r lineResult) bool {
	o.extend()
	body, err := encode(r)
	if err == nil {
		_, err = o.w.Write(body)
	}
	o.pending = true
	return err == nil
}

func (o *results) flush() bool {
	o.extend()
	o.pending = false
	err := o.rc.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported) // then it goes when it may
}

// extend gives the client time to take its results.
func (o *results) extend() {
	if now := time.Now(); now.After(o.until) {
		o.until = now.Add(linePause / 10)
		_ = o.rc.SetWriteDeadline(now.Add(linePause)) // where that is not possible, the server's holds
	}
}
