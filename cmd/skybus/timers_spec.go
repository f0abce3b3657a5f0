package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/scheduler"
)

// scheduleFlags say when a timer is due.
type scheduleFlags struct {
	After   *time.Duration `help:"Due so long from now." placeholder:"DURATION" group:"schedule" env:"-" xor:"due"`
	At      *dueTime       `help:"Due at this time, as in 2031-05-01T12:00:00Z or \"2031-05-01 14:00\"." placeholder:"TIME" group:"schedule" env:"-" xor:"due"`
	Every   time.Duration  `help:"Due again and again, so long after the time before." placeholder:"DURATION" group:"schedule" env:"-" xor:"repeat"`
	Cron    string         `help:"Due when this expression says: minute hour day month weekday, with seconds in front or not, or @daily and the like." placeholder:"EXPR" group:"schedule" env:"-" xor:"repeat"`
	TZ      string         `name:"tz" help:"Time zone of --cron, such as Europe/Berlin. Default: UTC." placeholder:"ZONE" group:"schedule" env:"-"`
	Start   *dueTime       `help:"No occurrence is before this time." placeholder:"TIME" group:"schedule" env:"-"`
	End     *dueTime       `help:"No occurrence is after this time." placeholder:"TIME" group:"schedule" env:"-"`
	Max     int64          `help:"How many occurrences there are. Default: no limit." placeholder:"N" group:"schedule" env:"-"`
	Jitter  time.Duration  `help:"Delay each occurrence by a random time below this." placeholder:"DURATION" group:"schedule" env:"-"`
	Overlap string         `help:"When one is due while another is being delivered: skip (the default), buffer_one or allow." enum:",skip,buffer_one,allow" default:"" placeholder:"POLICY" group:"schedule" env:"-"`
	Missed  string         `help:"Of those that nobody could fire in time, fire: once (the latest, the default), skip (none) or catch_up (the latest --catch-up)." enum:",once,skip,catch_up" default:"" placeholder:"POLICY" group:"schedule" env:"-"`
	CatchUp int            `help:"How many missed ones catch_up fires, 1 to 1000. Default: 10." placeholder:"N" group:"schedule" env:"-"`
	Window  time.Duration  `help:"How far back missed ones are made up for. Default: a year." placeholder:"DURATION" group:"schedule" env:"-"`
}

// repeatFlags are those that mean nothing without --every or --cron.
func (c *scheduleFlags) repeatFlags() []string {
	return []string{"tz", "start", "end", "max", "jitter", "overlap", "missed", "catch-up", "window"}
}

// apply puts what was given into a spec.
func (c *scheduleFlags) apply(app *App, spec *scheduler.Spec) error {
	if c.After != nil {
		if *c.After < 0 {
			return usagef("--after %s: want 0 or more", *c.After)
		}
		spec.After, spec.At = max(*c.After, 1), time.Time{} // 0 would mean that it was not given
	}
	if c.At != nil {
		spec.After, spec.At = 0, c.At.time()
	}
	repeat := scheduler.Repeat{}
	if spec.Repeat != nil {
		repeat = *spec.Repeat
	}
	switch {
	case c.Every != 0:
		repeat.Every, repeat.Cron, repeat.Zone = c.Every, "", ""
	case c.Cron != "":
		repeat.Cron, repeat.Every = c.Cron, 0
	case spec.Repeat == nil:
		for _, name := range c.repeatFlags() {
			if app.given[name] {
				return usagef("--%s is for timers that recur: want --every or --cron too", name)
			}
		}
		return nil
	}
	set(app, "tz", &repeat.Zone, c.TZ)
	set(app, "start", &repeat.Start, c.Start.time())
	set(app, "end", &repeat.End, c.End.time())
	set(app, "max", &repeat.Max, c.Max)
	set(app, "jitter", &repeat.Jitter, c.Jitter)
	set(app, "overlap", &repeat.Overlap, scheduler.Overlap(c.Overlap))
	set(app, "missed", &repeat.Missed, scheduler.Missed(c.Missed))
	set(app, "catch-up", &repeat.CatchUp, c.CatchUp)
	set(app, "window", &repeat.Window, c.Window)
	spec.Repeat = &repeat
	return nil
}

// set sets a field whose flag was given.
func set[T any](app *App, flag string, field *T, value T) {
	if app.given[flag] {
		*field = value
	}
}

// targetFlags say what a timer calls.
type targetFlags struct {
	HTTP      string        `name:"http" help:"Send an HTTP request to this URL, http or https." placeholder:"URL" group:"target" env:"-" xor:"target"`
	Call      string        `help:"Call this endpoint of a service." placeholder:"SERVICE.ENDPOINT" group:"target" env:"-" xor:"target"`
	Route     string        `help:"Run this route." placeholder:"NAME" group:"target" env:"-" xor:"target"`
	Publish   string        `help:"Publish to this subject." placeholder:"SUBJECT" group:"target" env:"-" xor:"target"`
	TCP       string        `name:"tcp" help:"Send a line to this address." placeholder:"HOST:PORT" group:"target" env:"-" xor:"target"`
	To        string        `help:"Whatever --transport makes of this." placeholder:"URI" group:"target" env:"-" xor:"target"`
	Transport string        `help:"Transport of --to: one of your own that the schedulers were given." placeholder:"NAME" group:"target" env:"-"`
	Method    string        `help:"Method of the HTTP request. Default: POST." placeholder:"METHOD" group:"target" env:"-"`
	Secret    string        `help:"Name of the key that signs the HTTP request, see skybus timers secrets." placeholder:"NAME" group:"target" env:"-"`
	Patience  time.Duration `name:"attempt-timeout" help:"How long one attempt may take. Default: 15s." placeholder:"DURATION" group:"target" env:"-"`

	MaxAttempts int           `help:"How often it is tried, 1 to 50. Default: 10." placeholder:"N" group:"retry" env:"-"`
	RetryFirst  time.Duration `help:"Longest wait after the first attempt; doubled with each. Default: 1s." placeholder:"DURATION" group:"retry" env:"-"`
	RetryLast   time.Duration `help:"Longest of all waits. Default: 1h." placeholder:"DURATION" group:"retry" env:"-"`
	MaxAge      time.Duration `help:"No attempt is made later than this after the time due. Default: 24h." placeholder:"DURATION" group:"retry" env:"-"`

	Data        *string   `short:"d" help:"What is sent: text, @FILE to read it from a file, or - from standard input." placeholder:"DATA" group:"target" env:"-"`
	ContentType string    `help:"Type of --data. Default: JSON where it is that, else text or bytes." placeholder:"TYPE" group:"target" env:"-"`
	Header      []string  `help:"Header to send along; may be repeated." placeholder:"NAME:VALUE" sep:"none" group:"target" env:"-"`
	Label       labelFlag `help:"Label to find it by; may be repeated." placeholder:"KEY=VALUE" sep:"none" env:"-"`
}

// target is the transport and where it goes, as the flags say.
func (c *targetFlags) target() (transport, uri string, err error) {
	for _, way := range []struct{ transport, uri string }{
		{"http", c.HTTP}, {"call", c.Call}, {"route", c.Route}, {"nats", c.Publish}, {"tcp", c.TCP}, {c.Transport, c.To},
	} {
		if way.uri != "" {
			transport, uri = way.transport, way.uri
		}
	}
	if c.Transport != "" && c.To == "" {
		return "", "", usagef("--transport %.80s: want --to URI too", c.Transport)
	}
	return transport, uri, nil
}

// apply puts what was given into a spec.
func (c *targetFlags) apply(ctx context.Context, app *App, spec *scheduler.Spec) error {
	transport, uri, err := c.target()
	if err != nil {
		return err
	}
	t := &spec.Target
	if uri != "" {
		if transport != t.Transport {
			t.Method, t.Secret = "", "" // they are the other one's
		}
		t.Transport, t.URI = transport, uri
	}
	set(app, "method", &t.Method, c.Method)
	set(app, "secret", &t.Secret, c.Secret)
	set(app, "attempt-timeout", &t.Timeout, c.Patience)
	set(app, "max-attempts", &spec.Retry.MaxAttempts, c.MaxAttempts)
	set(app, "retry-first", &spec.Retry.First, c.RetryFirst)
	set(app, "retry-last", &spec.Retry.Last, c.RetryLast)
	set(app, "max-age", &spec.Retry.MaxAge, c.MaxAge)
	if c.Data != nil {
		data, err := app.input(ctx, *c.Data)
		if err != nil {
			return err
		}
		spec.Payload, spec.ContentType = payloadOf(data, t.Transport)
	}
	set(app, "content-type", &spec.ContentType, c.ContentType)
	if len(c.Label) > 0 {
		if spec.Labels, err = c.Label.pairs(); err != nil {
			return err
		}
	}
	if len(c.Header) > 0 {
		spec.Header = map[string]string{}
	}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return usagef("--header %.80q: want NAME:VALUE", h)
		}
		spec.Header[name] = strings.TrimSpace(value)
	}
	return nil
}

// payloadOf is what is sent of data, and its content type where none is given: services read no text, and what goes by tcp is a line,
// to which its own end is added.
func payloadOf(data []byte, transport string) (payload []byte, contentType string) {
	if transport == "tcp" {
		data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	}
	switch {
	case len(data) == 0:
		return nil, ""
	case json.Valid(data):
		return data, "application/json"
	case utf8.Valid(data) && transport != "call" && transport != "route":
		return data, "text/plain; charset=utf-8"
	}
	return data, "application/octet-stream"
}
