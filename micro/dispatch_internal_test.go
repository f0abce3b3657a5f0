package micro

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// part is a type that refers to itself, with all kinds of fields.
type part struct {
	Name   string             `json:"name"`
	Number int8               `json:"number"`
	Ratio  float32            `json:"ratio"`
	Bytes  []byte             `json:"bytes"`
	Any    any                `json:"any"`
	Parts  []*part            `json:"parts"`
	Map    map[string]*part   `json:"map"`
	Odd    map[[2]uint16]bool `json:"-"`
}

type fuzzed struct{}

func (fuzzed) Value(_ context.Context, p part) (part, error)     { return p, nil }
func (fuzzed) Pointer(_ context.Context, p *part) (*part, error) { return p, nil }
func (fuzzed) Any(_ context.Context, p any) (any, error)         { return p, nil }
func (fuzzed) Text(_ context.Context, p string) (string, error)  { return p, nil }
func (fuzzed) Bytes(_ context.Context, p []byte) ([]byte, error) { return p, nil }
func (fuzzed) Amend(_ context.Context, req *part, resp *part) error {
	resp.Parts = append(resp.Parts, req)
	return nil
}

func (fuzzed) AmendBytes(_ context.Context, req, resp *[]byte) error {
	*resp = append(*resp, *req...)
	return nil
}

// newFuzzed is a service that does not run.
func newFuzzed(tb testing.TB) *Service {
	tb.Helper()
	server, err := bustest.Open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() }) // removes what it can
	conn, err := bus.Connect(tb.Context(), bus.Config{InProcess: server})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() }) // before the server
	s, err := NewService(conn, Config{Name: "fuzzed", Concurrency: 1})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Register(fuzzed{}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// When the answer is sent the place is free and the request is counted: as many callers as there are places are never
// refused, and who has its answer finds it in the figures.
func TestFreeBeforeAnswer(t *testing.T) {
	t.Parallel()
	s := newFuzzed(t)
	ep := s.endpoints["text"]
	for i, body := range []string{`"x"`, `5`, `{`} {
		if !ep.acquire() || ep.acquire() {
			t.Fatal("want one place")
		}
		if reply := s.handle(t.Context(), s.read(ep, &nats.Msg{Data: []byte(body)})); reply == nil {
			t.Fatal("no reply")
		}
		if f := ep.figures(); f.InFlight != 0 || f.Requests != uint64(i+1) || f.Errors != uint64(i) {
			t.Errorf("%s: %+v", body, f)
		}
	}
}

// FuzzRead feeds headers and body of a request to every shape of endpoint: none may panic, and what is refused is refused
// as the caller's mistake.
func FuzzRead(f *testing.F) {
	s := newFuzzed(f)
	for _, contentType := range []string{"", "application/json", "application/msgpack", "application/octet-stream", "text/plain; x"} {
		for _, body := range []string{"", `{"name":"x","parts":[{}]}`, "\x81\xa4name\xa1x", "\xdd\xff\xff\xff\xff", "\xc1", "null", "\xc0", `{}{"number":300}`} {
			f.Add(contentType, "", "", "", "", body)
			f.Add(contentType, "100", "2", strconv.Itoa(len(body)), "skybus://a.b.c skybus://d.e.f", body)
		}
	}
	f.Add("application/json", "-1", "x", "9999999999999999999999", " ", "")
	f.Fuzz(func(t *testing.T, contentType, timeout, attempt, prior, from, body string) {
		h := nats.Header{}
		for key, value := range map[string]string{
			bus.HeaderContentType: contentType, bus.HeaderTimeout: timeout, bus.HeaderAttempt: attempt,
			bus.HeaderPrior: prior, bus.HeaderFrom: from, bus.HeaderRequestID: from, bus.HeaderOneWay: prior,
		} {
			if value != "" {
				h[key] = []string{value}
			}
		}
		msg := &nats.Msg{Subject: "default.dev.svc.fuzzed.x", Header: h, Data: []byte(body)}
		for _, ep := range s.sortedEndpoints() {
			in := s.read(ep, msg)
			if in.codec == nil {
				t.Fatal("nothing to answer with")
			}
			if in.err != nil {
				wantMistake(t, in.err)
				continue
			}
			if len(in.body)+len(in.prior) != len(body) {
				t.Fatalf("%d and %d bytes of %d", len(in.body), len(in.prior), len(body))
			}
			out, err := s.invoke(in.attach(t.Context()), in)
			if err != nil {
				wantMistake(t, err)
				continue
			}
			if _, err := s.encode(in.codec, out); err != nil && bus.CodeOf(err) != bus.Internal {
				t.Fatalf("%s: %v", ep.name, err)
			}
		}
		s.check(s.sortedEndpoints()[0], msg, takesBoth)
		if bus.NewErrorReply(bus.JSON{}, errors.New(body)).Header[bus.HeaderServiceError] == nil {
			t.Fatal("an error without text")
		}
	})
}

func wantMistake(t *testing.T, err error) {
	t.Helper()
	if bus.CodeOf(err) != bus.InvalidArgument {
		t.Fatalf("%v is not told as the caller's mistake", err)
	}
}
