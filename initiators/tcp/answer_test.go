package tcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// fixed answers always the same.
func fixed(body string, err error) target {
	return func(context.Context, initiators.Request) (initiators.Reply, error) {
		return initiators.Reply{Body: []byte(body)}, err
	}
}

// What the framing can express comes out as it is, and what it cannot is an error frame, after which the connection goes on.
func TestAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for name, tt := range map[string]struct {
		framing tcp.Framing
		answer  string
		want    string // of the line; empty means an error frame
	}{
		"json on several lines": {tcp.Line{}, "{\n  \"a\": \"b c\"\n}\n", `{"a":"b c"}`},
		"json on one":           {tcp.Line{}, `{ "a": 1}`, `{ "a": 1}`},
		"json with a cr":        {tcp.Line{}, "{}\r", "{}"},
		"text":                  {tcp.Line{}, "a b", "a b"},
		"text on two":           {tcp.Line{}, "a\nb", ""},
		"text with an end":      {tcp.Line{}, "a\n", ""},
		"text with a cr":        {tcp.Line{}, "a\r", ""},
		"long":                  {tcp.Line{}, long, long},
		"empty":                 {tcp.Line{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, fixed(tt.answer, nil), tcp.Config{Framing: tt.framing})
			c := s.dial(t)
			for range 2 {
				c.write("in\n")
				got := c.line()
				if tt.want == "" && tt.answer != "" {
					if f := parseFailure(t, got); f.Code != bus.OutOfRange || f.ID == "" || !strings.Contains(f.Message, "cannot be a frame") {
						t.Errorf("%+v", f)
					}
				} else if got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			}
			if n := s.refused(tcp.ReasonAnswer); (n == 2) != (tt.want == "" && tt.answer != "") {
				t.Errorf("%d answers could not be frames", n)
			}
		})
	}
}

// A short prefix gets an error that fits, whatever its message; a small record too, and when none fits the connection is closed.
func TestErrorsThatFit(t *testing.T) {
	t.Parallel()
	failed := fixed("", bus.Errorf(bus.NotFound, "%s", strings.Repeat("no such thing ", 50)).With("field", strings.Repeat("f", 300)))
	for name, tt := range map[string]struct {
		to      target
		framing tcp.Framing
		in      string
		want    string // how the frame goes on after its beginning
	}{
		"a message that is cut": {failed, tcp.Prefix{Bytes: 1}, "\x01a", `not_found","message":"no such thing no such`},
		"an answer too long":    {fixed(strings.Repeat("x", 256), nil), tcp.Prefix{Bytes: 1}, "\x01a", `out_of_range","message":"the answer cannot be a frame`},
		"no message":            {failed, tcp.Fixed{Size: 80}, "a" + strings.Repeat(" ", 79), `not_found","request_id":"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.to, tcp.Config{Framing: tt.framing})
			c := s.dial(t)
			for range 2 {
				c.write(tt.in)
				frame, err := tt.framing.ReadFrame(c.r, 1<<20)
				if err != nil || !strings.HasPrefix(string(frame), `{"error":{"code":"`+tt.want) || !json.Valid(frame) {
					t.Errorf("%q, %v", frame, err)
				}
			}
		})
	}
}

// levels are the levels of what is logged.
type levels chan slog.Level

func (levels) Enabled(context.Context, slog.Level) bool { return true }

func (l levels) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "fits into no frame") {
		l <- r.Level
	}
	return nil
}

func (l levels) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l levels) WithGroup(string) slog.Handler { return l }

// Where no error fits the connection is closed in good order, after what was answered before, and the operator is told: once, however many clients there are.
func TestErrorsThatFitNowhere(t *testing.T) {
	t.Parallel()
	heard := make(levels, 10)
	to := target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
		switch string(req.Body) {
		case "fail":
			return initiators.Reply{}, bus.Errorf(bus.NotFound, "none")
		case "long":
			return initiators.Reply{Body: make([]byte, 11)}, nil
		}
		return echo(ctx, req)
	})
	s := serve(t, to, tcp.Config{Framing: tcp.Fixed{Size: 10}, Logger: slog.New(heard)})
	for i, in := range []string{"fail      ", "long      "} {
		c := s.dial(t)
		c.write("one       two       " + in + "three     ")
		if got := c.rest(); got != "one       two       " {
			t.Errorf("%q before %q", got, in)
		}
		want := slog.LevelDebug
		if i == 0 {
			want = slog.LevelWarn
		}
		if got := bustest.Receive(t, "the log", heard); got != want {
			t.Errorf("%q: logged at %v", in, got)
		}
	}
	if n, answers := s.refused(tcp.ReasonError), s.refused(tcp.ReasonAnswer); n != 2 || answers != 1 {
		t.Errorf("%d errors and %d answers that do not fit", n, answers)
	}
}

// Error frames are what a program makes of them.
func TestTextErrors(t *testing.T) {
	t.Parallel()
	form, err := tcp.TextErrors("-ERR {code} {status}: {message}")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, fixed("", bus.Errorf(bus.NotFound, "no {code}\r\nsuch thing")), tcp.Config{Errors: form, MaxFrame: 10})
	c := s.dial(t)
	c.write("a\n")
	if got := c.line(); got != "-ERR not_found 404: no {code}  such thing" {
		t.Errorf("%q", got)
	}
	c.write(strings.Repeat("x", 20) + "\n")
	if got := c.closed(); got != "-ERR resource_exhausted 413: the frame is longer than 10 bytes\n" {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"", "ERR", "{", "{code", "{code}{}", "{codes}", "{code|upper}"} {
		if _, err := tcp.TextErrors(bad); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The body of an error has its code, message and details, and the id that the target was given.
func TestJSONErrors(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 1)
	s := serve(t, target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
		ids <- req.ID
		return initiators.Reply{}, bus.Wrap(bus.Aborted, "not \"now\"\n", io.ErrClosedPipe).With("field", "a")
	}), tcp.Config{})
	c := s.dial(t)
	c.write("a\n")
	got := c.line()
	if f, id := parseFailure(t, got), <-ids; f.Code != bus.Aborted || f.Message != "not \"now\"\n" || f.Details["field"] != "a" || f.ID != id || id == "" {
		t.Errorf("%s for the request %s", got, id)
	}
	if strings.Contains(got, io.ErrClosedPipe.Error()) {
		t.Errorf("%s tells the cause", got)
	}
}

// dots is a framing of a program's own: frames end with a dot. A frame that begins with ! is not understood, ? panics, and one that is longer than it may
// be is returned all the same.
type dots struct{}

func (dots) ReadFrame(r *bufio.Reader, _ int) ([]byte, error) {
	text, err := r.ReadString('.')
	switch {
	case err != nil:
		return nil, err
	case text[0] == '!':
		return nil, bus.Errorf(bus.InvalidArgument, "no ! here")
	case text[0] == '?':
		panic("?")
	case text == ".":
		return nil, tcp.ErrSkip
	}
	return []byte(text[:len(text)-1]), nil
}

func (dots) WriteFrame(w *bufio.Writer, body []byte) error {
	if strings.Contains(string(body), ".") {
		return bus.Errorf(bus.OutOfRange, "a dot")
	}
	_, err := w.WriteString(string(body) + ".")
	return err
}

// A framing of a program's own is used as ours are; what it panics with ends one connection.
func TestOwnFraming(t *testing.T) {
	t.Parallel()
	form, err := tcp.TextErrors("({code})")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
		if string(req.Body) == "two" {
			return initiators.Reply{Body: []byte("1.2")}, nil
		}
		return echo(ctx, req)
	}), tcp.Config{Framing: dots{}, Errors: form, MaxFrame: 10})
	for in, want := range map[string]string{
		"a.b..two.c.":           "a.b.(out_of_range).c.",
		"a.!.b.":                "a.(invalid_argument).",
		"a.?.b.":                "a.(internal).",
		"a.b":                   "a.(invalid_argument).",
		"a.12345678901.b.":      "a.(resource_exhausted).",
		"POST / HTTP/1.1\r\na.": "(invalid_argument).",
	} {
		c := s.dial(t)
		c.write(in)
		c.finish()
		if got := c.closed(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := s.refused(tcp.ReasonBadFrame); n != 2 {
		t.Errorf("%d bad frames", n)
	}
}

// A target that panics fails one request.
func TestTargetPanics(t *testing.T) {
	t.Parallel()
	s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
		if string(req.Body) == "panic" {
			panic("secret")
		}
		return echo(ctx, req)
	}), tcp.Config{})
	c := s.dial(t)
	c.write("panic\na\n")
	if got := c.line(); parseFailure(t, got).Code != bus.Internal || strings.Contains(got, "secret") {
		t.Errorf("%s", got)
	}
	if got := c.line(); got != "a" {
		t.Errorf("%q", got)
	}
}

// The target is told what the frame holds, as what, and where it came from.
func TestRequests(t *testing.T) {
	t.Parallel()
	got := make(chan initiators.Request, 1)
	take := target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
		got <- req
		return initiators.Reply{}, nil
	})
	s, typed := serve(t, take, tcp.Config{}), serve(t, take, tcp.Config{ContentType: "application/msgpack"})
	c := s.dial(t)
	values := map[string]string{}
	for i, tt := range []struct{ in, contentType, line, frame string }{
		{`{"a":1}`, "", `{"a":1}`, "eyJhIjoxfQ=="},
		{`"text"`, "", `"text"`, "InRleHQi"},
		{`text`, "application/octet-stream", "text", "dGV4dA=="},
		{"\xff\xfe", "application/octet-stream", "\xff\xfe", "//4="},
		{`{"a":1}{"b":2}`, "application/octet-stream", `{"a":1}{"b":2}`, "eyJhIjoxfXsiYiI6Mn0="},
	} {
		c.write(tt.in + "\n")
		req := bustest.Receive(t, "the request", got)
		if string(req.Body) != tt.in || req.ContentType != tt.contentType || req.ID == "" {
			t.Errorf("%+v, want %+v", req, tt)
		}
		for _, name := range []string{"line", "frame", "remote", "connection", "number", "tls.cn", "other", ""} {
			v, ok := req.Values(name)
			if !ok {
				v = "(none)"
			}
			values[name] = v
		}
		if values["line"] != tt.line || values["frame"] != tt.frame || values["remote"] != c.LocalAddr().String() || values["number"] != string(rune('1'+i)) ||
			values["connection"] == "" || values["tls.cn"] != "(none)" || values["other"] != "(none)" || values[""] != "(none)" {
			t.Errorf("%q: %q", tt.in, values)
		}
		if c.line() != "" {
			t.Error("an empty answer is no empty line")
		}
	}
	c = typed.dial(t)
	c.write("{}\n")
	if req := bustest.Receive(t, "the request", got); req.ContentType != "application/msgpack" {
		t.Errorf("%+v", req)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg   tcp.Config
		field string
	}{
		"MaxFrame":       {tcp.Config{MaxFrame: -1}, "MaxFrame"},
		"MaxFrame most":  {tcp.Config{MaxFrame: 64<<20 + 1}, "MaxFrame"},
		"Pipeline":       {tcp.Config{Pipeline: 1<<16 + 1}, "Pipeline"},
		"MaxInFlight":    {tcp.Config{MaxInFlight: -1}, "MaxInFlight"},
		"MaxConns":       {tcp.Config{MaxConns: -1}, "MaxConns"},
		"Timeout":        {tcp.Config{Timeout: -1}, "Timeout"},
		"FrameTimeout":   {tcp.Config{FrameTimeout: -1}, "FrameTimeout"},
		"IdleTimeout":    {tcp.Config{IdleTimeout: -1}, "IdleTimeout"},
		"WriteTimeout":   {tcp.Config{WriteTimeout: -1}, "WriteTimeout"},
		"Drain":          {tcp.Config{Drain: -1}, "Drain"},
		"Line":           {tcp.Config{Framing: tcp.Line{CRLF: true, KeepCR: true}}, "Framing"},
		"Prefix":         {tcp.Config{Framing: tcp.Prefix{Bytes: 3}}, "Framing"},
		"Fixed":          {tcp.Config{Framing: tcp.Fixed{}}, "Framing"},
		"Fixed too long": {tcp.Config{Framing: tcp.Fixed{Size: 11}, MaxFrame: 10}, "Framing"},
	} {
		_, err := tcp.New(target(echo), tt.cfg)
		if e := bus.AsError(err); e == nil || e.Code != bus.InvalidArgument || e.Details["field"] != tt.field {
			t.Errorf("%s: %v", name, err)
		}
		if verr := tt.cfg.Validate(); verr == nil || verr.Error() != err.Error() {
			t.Errorf("%s: Validate says %v", name, verr)
		}
	}
	if _, err := tcp.New(nil, tcp.Config{}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("no target: %v", err)
	}
	if err := (tcp.Config{KeepAlive: -1, MaxConnsPerIP: -1}).Validate(); err != nil {
		t.Error(err)
	}
}
