package bus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// The statuses are the Connect protocol's.
func TestCodeStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code   bus.Code
		word   string
		status int
	}{
		{bus.Canceled, "canceled", 499},
		{bus.Unknown, "unknown", 500},
		{bus.InvalidArgument, "invalid_argument", 400},
		{bus.DeadlineExceeded, "deadline_exceeded", 504},
		{bus.NotFound, "not_found", 404},
		{bus.AlreadyExists, "already_exists", 409},
		{bus.PermissionDenied, "permission_denied", 403},
		{bus.ResourceExhausted, "resource_exhausted", 429},
		{bus.FailedPrecondition, "failed_precondition", 400},
		{bus.Aborted, "aborted", 409},
		{bus.OutOfRange, "out_of_range", 400},
		{bus.Unimplemented, "unimplemented", 501},
		{bus.Internal, "internal", 500},
		{bus.Unavailable, "unavailable", 503},
		{bus.DataLoss, "data_loss", 500},
		{bus.Unauthenticated, "unauthenticated", 401},
		{"no such word", "no such word", 500},
		{"", "", 500},
	}
	for _, tt := range tests {
		if string(tt.code) != tt.word || tt.code.Status() != tt.status {
			t.Errorf("%q has status %d, want %q with %d", tt.code, tt.code.Status(), tt.word, tt.status)
		}
		if got := bus.Errorf(tt.code, "x").HTTPStatus(); got != tt.status {
			t.Errorf("an error of %q has status %d, want %d", tt.code, got, tt.status)
		}
	}
	e := &bus.Error{Code: bus.ResourceExhausted, Status: 413}
	if got := e.HTTPStatus(); got != 413 {
		t.Errorf("status %d, want its own, 413", got)
	}
}

func TestErrorf(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	tests := []struct {
		name  string
		err   *bus.Error
		text  string
		holds []error
	}{
		{"plain", bus.Errorf(bus.NotFound, "order %d", 7), "not_found: order 7", nil},
		{"wrapped", bus.Errorf(bus.Internal, "read %q: %w", "x", io.EOF), `internal: read "x": EOF`, []error{io.EOF}},
		{"two wrapped", bus.Errorf(bus.Aborted, "%w: %w", other, io.EOF), "aborted: other: EOF", []error{other, io.EOF}},
		{"deep", bus.Errorf(bus.Internal, "a: %w", fmt.Errorf("b: %w", io.EOF)), "internal: a: b: EOF", []error{io.EOF}},
		{"deep and two", bus.Errorf(bus.Internal, "a: %w", fmt.Errorf("%w: %w", other, io.EOF)), "internal: a: other: EOF", []error{other, io.EOF}},
		{"Wrap", bus.Wrap(bus.Internal, "sorry", io.EOF), "internal: sorry", []error{io.EOF}},
		{"Wrap nothing", bus.Wrap(bus.Internal, "sorry", nil), "internal: sorry", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err.Error() != tt.text {
				t.Errorf("text %q, want %q", tt.err, tt.text)
			}
			for _, cause := range tt.holds {
				if !errors.Is(tt.err, cause) {
					t.Errorf("%v is not in its chain", cause)
				}
			}
			if len(tt.holds) == 0 && tt.err.Unwrap() != nil {
				t.Errorf("cause %v, want none", tt.err.Unwrap())
			}
		})
	}
}

func TestErrorWith(t *testing.T) {
	t.Parallel()
	err := bus.Errorf(bus.InvalidArgument, "bad order").With("field", "amount").With("min", "1")
	want := map[string]string{"field": "amount", "min": "1"}
	if diff := cmp.Diff(want, err.Details); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want bus.Code
	}{
		{"nil", nil, ""},
		{"an Error", bus.Errorf(bus.NotFound, "x"), bus.NotFound},
		{"a wrapped Error", fmt.Errorf("call: %w", bus.Errorf(bus.NotFound, "x")), bus.NotFound},
		{"the outer Error of two", bus.Errorf(bus.Internal, "x: %w", bus.Errorf(bus.NotFound, "y")), bus.Internal},
		{"a joined Error", errors.Join(io.EOF, bus.Errorf(bus.Aborted, "x")), bus.Aborted},
		{"an Error caused by a deadline", bus.Errorf(bus.Unavailable, "x: %w", context.DeadlineExceeded), bus.Unavailable},
		{"deadline", context.DeadlineExceeded, bus.DeadlineExceeded},
		{"wrapped deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), bus.DeadlineExceeded},
		{"time-out of NATS", nats.ErrTimeout, bus.DeadlineExceeded},
		{"canceled", context.Canceled, bus.Canceled},
		{"wrapped canceled", fmt.Errorf("x: %w", context.Canceled), bus.Canceled},
		{"another", io.EOF, bus.Unknown},
	}
	for _, tt := range tests {
		if got := bus.CodeOf(tt.err); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAsError(t *testing.T) {
	t.Parallel()
	if got := bus.AsError(nil); got != nil {
		t.Errorf("of nil: %v", got)
	}
	e := bus.Errorf(bus.NotFound, "x")
	if got := bus.AsError(fmt.Errorf("y: %w", e)); got != e {
		t.Errorf("got %v, want the Error in the chain", got)
	}
	got := bus.AsError(io.EOF)
	if got.Message != "EOF" || !errors.Is(got, io.EOF) {
		t.Errorf("got %v, want EOF as message and cause", got)
	}
}

// An error reply, from the handler through the server to the caller, in each codec a caller may speak.
func TestErrorReply(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	service := connect(t, s, bus.Config{Codec: upper{}})
	caller := connect(t, s, bus.Config{Codecs: []bus.Codec{upper{}}})

	full := bus.Errorf(bus.InvalidArgument, "bad amount").With("field", "amount").With("ä", "")
	tooLarge := &bus.Error{Code: bus.ResourceExhausted, Message: "body too large", Status: 413}
	multiline := bus.Errorf(bus.Internal, " first\r\nsecond: x\n\tthird\x00 ")
	flat := bus.Errorf(bus.Internal, "first  second: x  third")
	tests := []struct {
		name  string
		codec bus.Codec
		err   error
		want  *bus.Error
	}{
		{"JSON", bus.JSON{}, full, full},
		{"MessagePack", bus.MessagePack{}, full, full},
		{"raw: the details as JSON", bus.Raw{}, full, full},
		{"codec that cannot: as JSON", upper{}, full, full},
		{"JSON status", bus.JSON{}, tooLarge, tooLarge},
		{"raw status", bus.Raw{}, tooLarge, tooLarge},
		{"JSON lines", bus.JSON{}, multiline, multiline},
		{"MessagePack lines", bus.MessagePack{}, multiline, multiline},
		{"raw lines become one", bus.Raw{}, multiline, flat},
		{"no message", bus.JSON{}, bus.Errorf(bus.NotFound, ""), bus.Errorf(bus.NotFound, "")},
		{"no message, raw", bus.Raw{}, bus.Errorf(bus.NotFound, ""), bus.Errorf(bus.NotFound, "")},
		{"names", bus.JSON{}, bus.Errorf(bus.NotFound, "no 名 <é>"), bus.Errorf(bus.NotFound, "no 名 <é>")},
		{"names, raw", bus.Raw{}, bus.Errorf(bus.NotFound, "no 名 <é>"), bus.Errorf(bus.NotFound, "no 名 <é>")},
		{"any error", bus.JSON{}, io.EOF, bus.Errorf(bus.Unknown, "EOF")},
		{"of a context", bus.MessagePack{}, context.DeadlineExceeded, bus.Errorf(bus.DeadlineExceeded, "context deadline exceeded")},
		{"the cause stays", bus.JSON{}, bus.Wrap(bus.Internal, "sorry", io.EOF), bus.Errorf(bus.Internal, "sorry")},
		{"a code of one's own", bus.JSON{}, bus.Errorf("teapot", "short"), bus.Errorf("teapot", "short")},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			subject := fmt.Sprintf("fail.%d", i)
			serve(t, service, subject, func(*nats.Msg) *nats.Msg { return bus.NewErrorReply(tt.codec, tt.err) })
			reply, err := request(t, caller, patience, &nats.Msg{Subject: subject})
			if reply == nil {
				t.Error("the reply itself is not returned")
			}
			got, ok := errors.AsType[*bus.Error](err)
			if !ok {
				t.Fatalf("got %v, want an Error", err)
			}
			opt := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "cause" }, cmp.Ignore())
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(bus.Error{}), opt); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Unwrap() != nil {
				t.Errorf("cause %v came over the wire", got.Unwrap())
			}
		})
	}
}

// What other clients see: ADR-32's headers, our code, and a body that says the same.
func TestErrorReplyOnTheWire(t *testing.T) {
	t.Parallel()
	msg := bus.NewErrorReply(bus.JSON{}, bus.Errorf(bus.NotFound, "no\norder").With("id", "7"))
	want := nats.Header{
		"Content-Type":            {"application/json"},
		"Nats-Service-Error":      {"no order"},
		"Nats-Service-Error-Code": {"404"},
		"Skybus-Error-Code":       {"not_found"},
	}
	if diff := cmp.Diff(want, msg.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got, want := string(msg.Data), `{"code":"not_found","message":"no\norder","details":{"id":"7"}}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
}

func TestErrorReplyIsCut(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	for name, text := range map[string]string{
		"ascii": strings.Repeat("x", 5<<10),
		"runes": "x" + strings.Repeat("é", 5<<10), // a cut at a fixed place breaks a rune
		"lines": strings.Repeat("line\r\n", 1<<10),
	} {
		for codecName, codec := range map[string]bus.Codec{"json": bus.JSON{}, "msgpack": bus.MessagePack{}, "raw": bus.Raw{}} {
			t.Run(name+" "+codecName, func(t *testing.T) {
				subject := "cut." + name + "." + codecName
				serve(t, c, subject, func(*nats.Msg) *nats.Msg { return bus.NewErrorReply(codec, bus.Errorf(bus.Internal, "%s", text)) })
				_, err := request(t, c, patience, &nats.Msg{Subject: subject})
				got := bus.AsError(err)
				wantCode(t, err, bus.Internal)
				if n := len(got.Message); n > 1024 || n < 1000 {
					t.Errorf("message has %d bytes, want about 1,024 and no more", n)
				}
				if !utf8.ValidString(got.Message) || strings.ContainsRune(got.Message, utf8.RuneError) {
					t.Errorf("message was cut within a character: %q", got.Message[len(got.Message)-8:])
				}
				if name != "lines" && !strings.HasPrefix(text, got.Message) {
					t.Errorf("message is not the beginning of the text: %.40q", got.Message)
				}
			})
		}
	}
}

// Services of other SDKs speak ADR-32: a text and an HTTP status.
func TestForeignErrorReply(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	tests := []struct {
		text, code string
		body       string
		want       bus.Code
		status     int
	}{
		{"bad input", "400", "", bus.InvalidArgument, 400},
		{"who?", "401", "", bus.Unauthenticated, 401},
		{"no", "403", "", bus.PermissionDenied, 403},
		{"none", "404", "", bus.NotFound, 404},
		{"slow", "408", "", bus.DeadlineExceeded, 408},
		{"twice", "409", "", bus.Aborted, 409},
		{"not so", "412", "", bus.FailedPrecondition, 412},
		{"big", "413", "", bus.ResourceExhausted, 413},
		{"odd", "422", "", bus.InvalidArgument, 422},
		{"often", "429", "", bus.ResourceExhausted, 429},
		{"gone", "499", "", bus.Canceled, 499},
		{"oops", "500", "", bus.Internal, 500},
		{"what?", "501", "", bus.Unimplemented, 501},
		{"behind", "502", "", bus.Unavailable, 502},
		{"down", "503", "", bus.Unavailable, 503},
		{"slow", "504", "", bus.DeadlineExceeded, 504},
		{"full", "507", "", bus.ResourceExhausted, 507},
		{"tea", "418", "", bus.Unknown, 418},
		{"words", "E_BAD", "", bus.Unknown, 500},
		{"text alone", "", "", bus.Unknown, 500},
		{"", "404", "", bus.NotFound, 404},
		{"with text", "404", "no JSON", bus.NotFound, 404},
		{"with JSON", "404", `{"message":"other","code":7}`, bus.NotFound, 404},
		{"with a list", "404", `[1]`, bus.NotFound, 404},
	}
	for i, tt := range tests {
		t.Run(tt.code+" "+tt.text, func(t *testing.T) {
			subject := fmt.Sprintf("foreign.%d", i)
			serve(t, c, subject, func(*nats.Msg) *nats.Msg {
				h := nats.Header{}
				if tt.text != "" {
					h["Nats-Service-Error"] = []string{tt.text}
				}
				if tt.code != "" {
					h["Nats-Service-Error-Code"] = []string{tt.code}
				}
				return &nats.Msg{Header: h, Data: []byte(tt.body)}
			})
			reply, err := request(t, c, patience, &nats.Msg{Subject: subject})
			wantCode(t, err, tt.want)
			got := bus.AsError(err)
			if got.Message != tt.text || got.HTTPStatus() != tt.status {
				t.Errorf("got %q with status %d, want %q with %d", got.Message, got.HTTPStatus(), tt.text, tt.status)
			}
			if reply == nil || string(reply.Data) != tt.body {
				t.Errorf("reply %v, want it with its body", reply)
			}
		})
	}
}

// The same with the implementation of ADR-32 that most services have.
func TestMicroErrorReply(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	service, err := micro.AddService(s.Connect(t), micro.Config{
		Name:    "orders",
		Version: "1.0.0",
		Endpoint: &micro.EndpointConfig{Subject: "orders.get", Handler: micro.HandlerFunc(func(r micro.Request) {
			_ = r.Error("404", "no such order", []byte(`{"id":7}`))
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	bustest.Eventually(t, "endpoint", func() bool {
		_, err = request(t, c, patience, &nats.Msg{Subject: "orders.get"})
		return !errors.Is(err, bus.ErrNoResponders)
	})
	wantCode(t, err, bus.NotFound)
	if got := bus.AsError(err).Message; got != "no such order" {
		t.Errorf("message %q", got)
	}
}
