package tcp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// order is what the endpoint price takes.
type order struct {
	Item string  `json:"item"`
	N    int64   `json:"n"`
	Sum  float64 `json:"sum"`
	From string  `json:"from,omitempty"`
}

// house has a service app, with the endpoints echo (bytes) and price (an order, which it answers), and a route of the same.
type house struct {
	conn    *bus.Conn
	sources initiators.Sources
}

func build(t testing.TB, opts ...bustest.Option) *house {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t, opts...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "app", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		micro.Handle(s, "echo", func(_ context.Context, body []byte) ([]byte, error) { return body, nil }),
		micro.Handle(s, "price", func(_ context.Context, o order) (order, error) { return o, nil }),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	bustest.Receive(t, "the service", started)
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // has no error to tell
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(t.Context(), "price", route.Route{Steps: []route.Step{{Service: "app", Endpoint: "price"}}}); err != nil {
		t.Fatal(err)
	}
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() }) // has no error to tell
	return &house{conn, initiators.Sources{Client: client, Runner: runner}}
}

func (h *house) target(t testing.TB, spec initiators.Spec) initiators.Target {
	t.Helper()
	to, err := h.sources.Target(spec)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// Lines reach services, routes, subjects and streams, and their answers come back as lines.
func TestTargets(t *testing.T) {
	t.Parallel()
	h := build(t)
	if _, err := h.conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "LINES", Subjects: []string{"default.dev.pub.lines.>"}}); err != nil {
		t.Fatal(err)
	}
	wrapped := &initiators.Mapping{Body: initiators.BodyNone, Fields: map[string]string{"item": "{line}", "n": "{number|int}", "from": "{remote}"}}
	for name, tt := range map[string]struct {
		spec     initiators.Spec
		in, want string
	}{
		"call":            {initiators.Spec{Call: "app.price"}, `{"item":"a","n":9007199254740993}`, `{"item":"a","n":9007199254740993,"sum":0}`},
		"call with bytes": {initiators.Spec{Call: "app.echo"}, "a plain line", "a plain line"},
		"call with text":  {initiators.Spec{Call: "app.price", Request: wrapped}, `a "b" \ c`, `{"item":"a \"b\" \\ c","n":1,"sum":0,"from":"127.0.0.1:`},
		"route":           {initiators.Spec{Route: "price"}, `{"item":"a"}`, `{"item":"a","n":0,"sum":0}`},
		"publish":         {initiators.Spec{Publish: "default.dev.pub.heard.{line}"}, "a-7", `{"subject":"default.dev.pub.heard.a-7"}`},
		"stream":          {initiators.Spec{Stream: "default.dev.pub.lines.a"}, "kept", `{"subject":"default.dev.pub.lines.a","stream":"LINES","sequence":1}`},
		"reply mapping":   {initiators.Spec{Call: "app.price", Reply: &initiators.Mapping{Body: "none", Fields: map[string]string{"it": "{body.item}"}}}, `{"item":"a"}`, `{"it":"a"}`},
		"nobody":          {initiators.Spec{Call: "nowhere.get"}, "{}", `{"error":{"code":"unavailable"`},
		"not json":        {initiators.Spec{Call: "app.price"}, "a plain line", `{"error":{"code":"invalid_argument"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, h.target(t, tt.spec), tcp.Config{})
			c := s.dial(t)
			c.write(tt.in + "\n")
			if got := c.line(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Many connections pipeline into a service; each gets its own answers, in order.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := serve(t, h.target(t, initiators.Spec{Call: "app.price"}), tcp.Config{Timeout: time.Minute}) // whatever else the machine does
	var running sync.WaitGroup
	for i := range 20 {
		c := s.dial(t)
		running.Go(func() {
			for n := range 50 {
				if _, err := fmt.Fprintf(c, `{"item":"%d","n":%d}`+"\r\n", i, n); err != nil {
					t.Error(err)
					return
				}
			}
			_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() // the answers show what went wrong
		})
		running.Go(func() {
			var want strings.Builder
			for n := range 50 {
				fmt.Fprintf(&want, `{"item":"%d","n":%d,"sum":0}`+"\n", i, n)
			}
			got := c.closed()
			if _, failed, ok := strings.Cut(got, "error"); ok {
				t.Errorf("connection %d: %.200s", i, failed)
			} else if got != want.String() {
				t.Errorf("connection %d: %.200s", i, got)
			}
		})
	}
	running.Wait()
	if st := s.Stats(); st.Frames != 1000 || st.Succeeded != 1000 || st.Failed != 0 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

// What a frame says cannot choose a subject, add a header, or end a connection that others use.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.MaxPayload(64<<10))
	heard := make(chan *nats.Msg, 1000)
	sub, err := h.conn.NATS().ChanSubscribe("default.dev.pub.>", heard)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, h.target(t, initiators.Spec{
		Publish: "default.dev.pub.items.{line}", Request: &initiators.Mapping{Header: map[string]string{"X-Line": "{line}"}},
	}), tcp.Config{Framing: tcp.Prefix{}, MaxFrame: 1 << 20})
	c := s.dial(t)
	framing := tcp.Prefix{}
	ask := func(frame string) string {
		t.Helper()
		c.write(string([]byte{byte(len(frame) >> 24), byte(len(frame) >> 16), byte(len(frame) >> 8), byte(len(frame))}) + frame)
		answer, err := framing.ReadFrame(c.r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	for _, evil := range []string{
		"", " ", "a b", "*", ">", "..", "a.b", ".", "a\r\nX-Evil: 1", "a\x00", "\xff", "é", "$JS", "../../x", strings.Repeat("x", 65), strings.Repeat("x", 5000), strings.Repeat("x", 200<<10),
	} {
		if f := parseFailure(t, ask(evil)); f.Code != bus.InvalidArgument {
			t.Errorf("%.40q: %+v", evil, f)
		}
	}
	if got := ask("good"); got != `{"subject":"default.dev.pub.items.good"}` {
		t.Errorf("after that: %s", got)
	}
	msg := bustest.Receive(t, "the good message", heard)
	if msg.Subject != "default.dev.pub.items.good" || msg.Header.Get("X-Line") != "good" || msg.Header.Get("X-Evil") != "" || msg.Reply != "" {
		t.Errorf("%+v", msg)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Error(err)
	}

	// A frame that NATS does not take is an error of its own.
	to := serve(t, h.target(t, initiators.Spec{Publish: "default.dev.pub.a"}), tcp.Config{MaxFrame: 1 << 20})
	c = to.dial(t)
	c.write(strings.Repeat("x", 100<<10) + "\na\n")
	if f := parseFailure(t, c.line()); f.Code != bus.ResourceExhausted {
		t.Errorf("%+v", f)
	}
	if got := c.line(); got != `{"subject":"default.dev.pub.a"}` {
		t.Errorf("after that: %s", got)
	}
}

// Bodies that no type takes are answered as such, or come back as they were.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	h := build(t)
	to := h.target(t, initiators.Spec{Call: "app.price"})
	s, packed := serve(t, to, tcp.Config{}), serve(t, to, tcp.Config{ContentType: "application/msgpack", Framing: tcp.Prefix{Bytes: 2}})
	c := s.dial(t)
	for in, want := range map[string]string{
		`{"item":"a","item":"b"}`:   `{"item":"b","n":0,"sum":0}`,
		`{"n":9223372036854775807}`: `{"item":"","n":9223372036854775807,"sum":0}`,
		`{"n":9223372036854775808}`: "invalid_argument",
		`{"sum":1e400}`:             "invalid_argument",
		`{"item":`:                  "invalid_argument",
		`{} trailing`:               "invalid_argument",
		"\ufeff{}":                  "invalid_argument",
		"\x00":                      "invalid_argument",
		`{"item":"\ud800"}`:         `{"item":"` + "\ufffd" + `","n":0,"sum":0}`,
		strings.Repeat("[", 20000):  "invalid_argument",
		strings.Repeat("[", 9000) + strings.Repeat("]", 9000): "invalid_argument",
		`null`: `{"item":"","n":0,"sum":0}`,
	} {
		c.write(in + "\n")
		got := c.line()
		if strings.HasPrefix(want, "{") && got != want || !strings.HasPrefix(want, "{") && string(parseFailure(t, got).Code) != want {
			t.Errorf("%.60q: %.200s, want %s", in, got, want)
		}
	}
	c = packed.dial(t)
	framing := tcp.Prefix{Bytes: 2}
	for _, in := range []string{
		"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff\xa1a", "\xc6\xff\xff\xff\xffx", strings.Repeat("\x91", 10000), "\x81\xa4item", "\x80\x80", "\xc1", "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", "\x81\xa1n\xa1x",
	} {
		c.write(string([]byte{byte(len(in) >> 8), byte(len(in))}) + in)
		answer, err := framing.ReadFrame(c.r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if f := parseFailure(t, string(answer)); f.Code != bus.InvalidArgument {
			t.Errorf("%.20q: %+v", in, f)
		}
	}
}

// What web pages make browsers send is refused, in whatever framing, and none of it reaches the target.
func TestHTTP(t *testing.T) {
	t.Parallel()
	form, err := tcp.TextErrors("ERR {message}")
	if err != nil {
		t.Fatal(err)
	}
	for name, framing := range map[string]tcp.Framing{"line": tcp.Line{}, "prefix": tcp.Prefix{Bytes: 1}, "fixed": tcp.Fixed{Size: 50}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
				t.Errorf("the target was sent %q", req.Body)
				return initiators.Reply{}, nil
			}), tcp.Config{Framing: framing, Errors: form})
			for _, head := range []string{
				"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6\r\n\r\ndrop\r\n",
				"GET /" + strings.Repeat("x", 20000) + " HTTP/1.1\r\nHost: a\r\n\r\n",
				"OPTIONS * HTTP/1.0\n\nabc\n",
				"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			} {
				c := s.dial(t)
				_, _ = io.WriteString(c, head) // it may be hung up on
				if got := c.closed(); !strings.Contains(got, "ERR this port does not speak HTTP") {
					t.Errorf("%.20q: %q", head, got)
				}
			}
			if n := s.refused(tcp.ReasonHTTP); n != 4 {
				t.Errorf("%d refused", n)
			}
		})
	}
	// Lines that only look like it are lines.
	s := serve(t, target(echo), tcp.Config{})
	for _, line := range []string{"GET /key", "GET key HTTP/1.1", "get / HTTP/1.1", "POST", "PUT /a b"} {
		c := s.dial(t)
		c.write(line + "\n")
		if got := c.line(); got != line {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// Noise on many connections hurts nobody else, and is not logged.
func TestNoise(t *testing.T) {
	t.Parallel()
	const canary = "SECRET-7f3a"
	for name, framing := range map[string]tcp.Framing{"line": tcp.Line{}, "prefix": tcp.Prefix{}, "prefix 2": tcp.Prefix{Bytes: 2}, "fixed": tcp.Fixed{Size: 16}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var log bytes.Buffer
			s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
				if len(req.Body)%3 == 0 {
					return initiators.Reply{}, bus.Errorf(bus.Internal, "%s", canary)
				}
				return echo(ctx, req)
			}), tcp.Config{Framing: framing, MaxFrame: 1 << 10, FrameTimeout: 100 * time.Millisecond, WriteTimeout: 200 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return log.Write(p)
			}), &slog.HandlerOptions{Level: slog.LevelDebug}))})
			var running sync.WaitGroup
			for i := range 40 {
				c := s.dial(t)
				running.Go(func() {
					random := rand.New(rand.NewPCG(1, uint64(i)))
					for range 100 {
						part := []byte(canary)
						for range random.IntN(300) {
							part = append(part, byte(random.Uint32()))
						}
						if _, err := c.Write(part); err != nil {
							break
						}
					}
					if i%2 == 0 {
						_ = c.Close()
						return
					}
					_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() // the server may have closed already
					_, _ = io.Copy(io.Discard, c.Conn)
				})
			}
			running.Wait()
			bustest.Eventually(t, "the end of all connections", func() bool { st := s.Stats(); return st.Connections == 0 && st.InFlight == 0 })
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(log.String(), canary) {
				t.Errorf("the log has what clients sent: %.500s", log.String())
			}
		})
	}
}

type writer func(p []byte) (int, error)

func (f writer) Write(p []byte) (int, error) { return f(p) }

// Text that nobody can read is answered with what was wanted, and which setting would take it.
func TestTextForJSON(t *testing.T) {
	t.Parallel()
	h := build(t)
	to := h.target(t, initiators.Spec{Call: "app.price"})
	for name, tt := range map[string]struct {
		to     initiators.Target
		cfg    tcp.Config
		in     string
		begins string
	}{
		"text":            {to, tcp.Config{}, "hello\n", "the line is not JSON, so it was sent on as bytes, which are not taken: want JSON on each line, or request of the listener's target (skybus: --field)"},
		"a part of JSON":  {to, tcp.Config{}, `{"item":` + "\n", "the line is not JSON, "},
		"a record":        {to, tcp.Config{Framing: tcp.Fixed{Size: 300}}, "hello" + strings.Repeat(" ", 295), "the frame is not JSON, "},
		"called JSON":     {to, tcp.Config{ContentType: "application/json"}, "hello\n", "the line was sent on as what content_type of the listener (skybus: --content-type) says that it is: request is not application/json"},
		"of another type": {to, tcp.Config{}, `{"item":1}` + "\n", "request is not application/json"},
		"made by mapping": {h.target(t, initiators.Spec{Call: "app.price", Request: &initiators.Mapping{Body: initiators.BodyNone, Fields: map[string]string{"n": "{line}"}}}), tcp.Config{}, "hello\n", "request is not application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, tt.to, tt.cfg).dial(t)
			c.write(tt.in)
			c.finish()
			f := parseFailure(t, c.rest())
			if f.Code != bus.InvalidArgument || !strings.HasPrefix(f.Message, tt.begins) || strings.Contains(f.Message, "codec: want") {
				t.Errorf("%+v", f)
			}
		})
	}
	c := serve(t, h.target(t, initiators.Spec{Call: "app.echo"}), tcp.Config{}).dial(t)
	c.write("hello\n")
	if got := c.line(); got != "hello" {
		t.Errorf("who takes bytes answers %s", got)
	}
}
