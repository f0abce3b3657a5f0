package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

const (
	receiveAddr    = loopbackHost + ":8888"
	receiveMaxBody = 4 << 20
	shownBytes     = 2000 // of a payload, on a terminal
)

type listenCmd struct {
	Listen     string        `help:"Where it listens. Port 0 picks a free one. Default: 127.0.0.1:8888." placeholder:"ADDR" env:"-" xor:"addr"`
	Port       *uint16       `help:"The same on this machine, by the port alone." placeholder:"PORT" env:"-" xor:"addr"`
	SecretFile string        `help:"File with the key of the signatures (whsec_... or whpk_...), several lines for several, or - for standard input. Also taken from the variable SKYBUS_WEBHOOK_SECRET." placeholder:"FILE" env:"-"`
	Status     int           `help:"Status to answer with." default:"200" env:"-"`
	FailFirst  int           `help:"Answer the first attempts of each delivery with 503, so many, to see them tried again." placeholder:"N" env:"-"`
	Delay      time.Duration `help:"Answer so much later." placeholder:"DURATION" env:"-"`
	Count      int           `help:"End after so many requests. Default: never." placeholder:"N" env:"-"`
	PortsFile  portsFile     `help:"File to write the address to, as JSON, once it listens." placeholder:"FILE" env:"-"`
}

// Help is shown below the usage.
func (*listenCmd) Help() string {
	return `It takes any request and prints what it holds: of timers how late it came, which attempt it is, and whether its signature is good. With
-o json it prints a line of JSON for each. It needs no server.

Examples:

    skybus listen
    skybus timers create --after 5s --http http://127.0.0.1:8888/ --data hello    # in another terminal

    skybus listen --port 9000 --fail-first 2
    skybus listen --status 410 -o json
    skybus timers secrets new billing -o json | jq -r .key > key.txt; skybus listen --secret-file key.txt`
}

// Validate finds the mistakes that need no look at the machine.
func (c *listenCmd) Validate() error {
	switch {
	case c.Status < 200 || c.Status > 599:
		return fmt.Errorf("--status %d: want 200 to 599", c.Status)
	case c.FailFirst < 0 || c.Count < 0 || c.Delay < 0:
		return fmt.Errorf("--fail-first %d, --count %d, --delay %v: want 0 or more", c.FailFirst, c.Count, c.Delay)
	}
	if c.Listen == "" {
		return nil
	}
	return checkAddr("--listen", c.Listen)
}

// addr is where it is to listen.
func (c *listenCmd) addr() string {
	if c.Port != nil {
		return net.JoinHostPort(loopbackHost, strconv.Itoa(int(*c.Port)))
	}
	return cmp.Or(c.Listen, receiveAddr)
}

// received is a request as it is printed.
type received struct {
	Time      time.Time         `json:"time"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Timer     string            `json:"timer,omitempty"`
	Delivery  string            `json:"delivery,omitempty"`
	Attempt   int               `json:"attempt,omitempty"`
	Due       time.Time         `json:"due,omitzero"`
	LateMS    *float64          `json:"late_ms,omitempty"`
	Signature string            `json:"signature"`
	Header    map[string]string `json:"header"`
	Body      any               `json:"body,omitempty"`
	Answered  int               `json:"answered"`

	raw []byte
}

// receiver is a receiver of webhooks for people who look on.
type receiver struct {
	cmd      *listenCmd
	app      *App
	verifier *webhook.Verifier // nil without a key
	stop     context.CancelCauseFunc

	mu   sync.Mutex // guards what follows, and stdout
	seen int
}

var errEnough = errors.New("as many requests came as were wanted")

// Run listens until ctx ends.
func (c *listenCmd) Run(ctx context.Context, app *App) error {
	if err := c.PortsFile.prepare(); err != nil {
		return err
	}
	verifier, err := c.verifier(ctx, app)
	if err != nil {
		return err
	}
	l, err := listenAt(ctx, c.addr())
	if err != nil {
		return withHint(fmt.Errorf("receiver: %w", err), "--port 0 picks a free port")
	}
	defer func() { _ = l.Close() }() // closed already, by who served
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	url := httpURL(l)
	if err := c.PortsFile.write(map[string]string{"listen": url}); err != nil {
		return err
	}
	defer c.PortsFile.remove()
	if app.Output == formatTable {
		fmt.Fprintf(app.stderr, "listening at %s/\nfor a first timer: %s timers create --after 5s --http %s/ --data hello\n", url, programName(), url)
	}
	r := &receiver{cmd: c, app: app, verifier: verifier, stop: stop}
	srv := httpx.Server{Handler: r, Timeout: c.Delay + time.Second, Drain: time.Second, Logger: app.log}
	return srv.Serve(ctx, l)
}

// verifier has the keys that were given, nil for none.
func (c *listenCmd) verifier(ctx context.Context, app *App) (*webhook.Verifier, error) {
	text, from := []byte(os.Getenv("SKYBUS_WEBHOOK_SECRET")), "SKYBUS_WEBHOOK_SECRET"
	if c.SecretFile != "" {
		var err error
		if text, err = app.readFile(ctx, c.SecretFile); errors.Is(err, fs.ErrNotExist) {
			return nil, withHint(err, "`skybus timers secrets new NAME` makes a key, and prints it")
		} else if err != nil {
			return nil, err
		}
		from = c.SecretFile
	}
	keys := strings.Fields(string(text))
	if len(keys) == 0 && c.SecretFile == "" {
		return nil, nil
	}
	v, err := webhook.NewVerifier(keys...)
	if err != nil {
		return nil, withHint(usagef("%s: %s", from, message(err)), "a key begins with whsec_ or whpk_, and stands alone on its line")
	}
	return v, nil
}

// ServeHTTP prints the request and answers it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e := newReceived(req)
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, receiveMaxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.raw, e.Signature = body, r.check(req.Header, body)
	if len(body) > 0 {
		e.Body = shownBody(body)
	}
	e.Answered = r.cmd.Status
	if e.Attempt > 0 && e.Attempt <= r.cmd.FailFirst {
		e.Answered = http.StatusServiceUnavailable
	}
	last := r.print(e)
	if r.cmd.Delay > 0 {
		select {
		case <-time.After(r.cmd.Delay):
		case <-req.Context().Done():
		}
	}
	w.WriteHeader(e.Answered)
	if last {
		r.stop(errEnough)
	}
}

func newReceived(req *http.Request) *received {
	e := &received{Time: time.Now(), Method: req.Method, Path: req.URL.RequestURI(), Header: map[string]string{}}
	for name := range req.Header {
		e.Header[name] = strings.Join(req.Header.Values(name), ", ")
	}
	e.Timer, e.Delivery = req.Header.Get(scheduler.HeaderTimerID), req.Header.Get(scheduler.HeaderIdempotencyKey)
	e.Attempt, _ = strconv.Atoi(req.Header.Get(scheduler.HeaderAttempt)) // not of a timer
	if due, err := time.Parse(time.RFC3339Nano, req.Header.Get(scheduler.HeaderDue)); err == nil {
		e.Due = due
		e.LateMS = new(float64(e.Time.Sub(due).Round(10*time.Microsecond)) / float64(time.Millisecond))
	}
	return e
}

// check says what is to be said of the signature.
func (r *receiver) check(h http.Header, body []byte) string {
	signed := h.Get(webhook.HeaderSignature) != ""
	switch {
	case !signed && r.verifier == nil:
		return "none"
	case r.verifier == nil:
		return "not checked (no key given)"
	}
	if err := r.verifier.Verify(h, body); err != nil {
		return "bad: " + strings.TrimPrefix(err.Error(), "webhook: ")
	}
	return "good"
}

// print prints a request, and tells whether it was the last one to be taken.
func (r *receiver) print(e *received) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	_ = printEvent(r.app, e, e.line()) // stdout is gone: nobody looks on any more
	return r.seen == r.cmd.Count
}

// line is a request for people.
func (e *received) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s %s", e.Time.Local().Format("15:04:05.000"), e.Method, e.Path)
	if e.Timer != "" {
		fmt.Fprintf(&b, "  timer %s  attempt %d", e.Timer, e.Attempt)
	}
	if e.LateMS != nil {
		fmt.Fprintf(&b, "  late %.2f ms", *e.LateMS)
	}
	fmt.Fprintf(&b, "  signature %s  answered %d", e.Signature, e.Answered)
	if len(e.raw) > 0 {
		text := e.raw
		more := ""
		if len(text) > shownBytes {
			text, more = text[:shownBytes], fmt.Sprintf("... (%d bytes)", len(e.raw))
		}
		fmt.Fprintf(&b, "\n    %s%s", strings.ReplaceAll(strings.TrimRight(string(text), "\r\n"), "\n", "\n    "), more)
	}
	return b.String()
}
