package scheduler

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// picky refuses what it is told to.
type picky struct{ err error }

func (p picky) Check(context.Context, Target) error      { return p.err }
func (p picky) Deliver(context.Context, *Delivery) error { return p.err }

func TestTarget(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback(), Transports: map[string]Transport{"sms": picky{}}})
	for _, tt := range []struct{ in, want Target }{
		{Target{URI: "http://127.0.0.1:8080/"}, Target{Transport: "http", URI: "http://127.0.0.1:8080/"}},
		{Target{URI: "HTTPS://127.0.0.1/", Method: "patch"}, Target{Transport: "http", URI: "HTTPS://127.0.0.1/", Method: "PATCH"}},
		{Target{Transport: "https", URI: "https://127.0.0.1/"}, Target{Transport: "http", URI: "https://127.0.0.1/"}},
		{Target{Transport: "nats", URI: "default.dev.pub.x", Method: "post"}, Target{Transport: "nats", URI: "default.dev.pub.x"}},
		{Target{URI: "nats://default.dev.pub.x"}, Target{Transport: "nats", URI: "default.dev.pub.x"}},
		{Target{URI: "Call://a.b"}, Target{Transport: "call", URI: "a.b"}},
		{Target{URI: "route://a"}, Target{Transport: "route", URI: "a"}},
		{Target{Transport: "tcp", URI: "127.0.0.1:9000"}, Target{Transport: "tcp", URI: "127.0.0.1:9000"}},
		{Target{URI: "tcp://127.0.0.1:9000", Timeout: time.Second}, Target{Transport: "tcp", URI: "127.0.0.1:9000", Timeout: time.Second}},
		{Target{URI: "sms://+49123", Method: "Flash"}, Target{Transport: "sms", URI: "sms://+49123", Method: "Flash"}},
	} {
		got, err := s.checkTarget(t.Context(), tt.in, []byte("x"), "", nil)
		if err != nil || got != tt.want {
			t.Errorf("%+v: %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
		again, err := s.checkTarget(t.Context(), got, []byte("x"), "", nil)
		if err != nil || again != got {
			t.Errorf("%+v again: %+v, %v", got, again, err)
		}
	}
}

func TestTargetRefused(t *testing.T) {
	t.Parallel()
	shared := bus.Errorf(bus.PermissionDenied, "not you")
	_, s := openTransports(t, Config{AllowNetworks: loopback(), Transports: map[string]Transport{
		"sms": picky{}, "fax": picky{errors.New("out of paper")}, "pigeon": picky{shared},
	}})
	for _, tt := range []struct {
		target Target
		code   bus.Code
		field  string
	}{
		{Target{}, bus.InvalidArgument, "target.transport"},
		{Target{URI: "default.dev.pub.x"}, bus.InvalidArgument, "target.transport"},
		{Target{URI: "smtp://x"}, bus.InvalidArgument, "target.transport"},
		{Target{URI: "file:///etc/passwd"}, bus.InvalidArgument, "target.transport"},
		{Target{Transport: "HTTP", URI: "http://127.0.0.1/"}, bus.InvalidArgument, "target.transport"},
		{Target{Transport: "http", URI: "file:///etc/passwd"}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "http"}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "sms"}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "sms", URI: strings.Repeat("a", MaxURI+1)}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "sms", URI: "a\nb"}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "sms", URI: "a\xff"}, bus.InvalidArgument, "target.uri"},
		{Target{Transport: "sms", URI: "a", Method: "a b"}, bus.InvalidArgument, "target.method"},
		{Target{URI: "http://127.0.0.1/", Method: "TRACE"}, bus.InvalidArgument, "target.method"},
		{Target{URI: "http://127.0.0.1/", Timeout: -1}, bus.InvalidArgument, "target.timeout"},
		{Target{URI: "http://127.0.0.1/", Timeout: MaxTargetTime + 1}, bus.InvalidArgument, "target.timeout"},
		{Target{URI: "http://10.0.0.1/"}, bus.PermissionDenied, "target.uri"},
		{Target{URI: "fax://1"}, bus.InvalidArgument, "target.uri"},
		{Target{URI: "pigeon://1"}, bus.PermissionDenied, "target.uri"},
	} {
		err := check(t, s, tt.target)
		wantField(t, err, tt.code, tt.field)
		if tt.code == bus.PermissionDenied && bus.AsError(err).HTTPStatus() != 422 {
			t.Errorf("%+v: status %d", tt.target, bus.AsError(err).HTTPStatus())
		}
	}
	if err := check(t, s, Target{Transport: "x", URI: "y"}); !strings.Contains(err.Error(), "call, fax, http, nats, pigeon, route, sms, tcp") {
		t.Errorf("%v: want the transports there are", err)
	}
	if shared.Details != nil || shared.Status != 0 {
		t.Error("the transport's own error was changed")
	}
}

func TestTargetHeader(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	try := func(h map[string]string) error {
		_, err := s.checkTarget(t.Context(), Target{URI: "http://127.0.0.1/"}, nil, "", h)
		return err
	}
	many := map[string]string{}
	for i := range MaxHeaders {
		many["X-"+strconv.Itoa(i)] = "a"
	}
	for name, h := range map[string]map[string]string{
		"none": nil, "some": {"X-A": "b", "Authorization": "Bearer x", "Cookie": "a=b", "Accept": "*/*", "X-Tab": "a\tb", "X-Empty": "", "X-Text": "grüß"}, "many": many,
	} {
		if err := try(h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	more := maps.Clone(many)
	more["X-More"] = "a"
	for name, h := range map[string]map[string]string{
		"too many": more, "too large": {"X-A": strings.Repeat("a", MaxHeaderBytes)}, "twice": {"x-a": "1", "X-A": "2"},
		"line": {"X-A": "a\r\nX-B: c"}, "nul": {"X-A": "a\x00"}, "delete": {"X-A": "\x7f"}, "bytes": {"X-A": "\xff"},
		"empty name": {"": "a"}, "space": {"X A": "a"}, "colon": {"X:A": "a"}, "name with line": {"X\r\nHost": "a"}, "other script": {"Ü": "a"},
	} {
		if err := try(h); bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != "header" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer", "Proxy-Authorization", "Proxy-Connection", "Keep-Alive",
		"Expect", "webhook-id", "Webhook-Signature", "Skybus-Attempt", "skybus-anything", "Nats-Msg-Id", "nats-rollup", "Idempotency-Key", "Content-Type", "traceparent",
	} {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			wantField(t, try(map[string]string{spelling: "x"}), bus.InvalidArgument, "header")
		}
	}
}

func TestMemo(t *testing.T) {
	t.Parallel()
	m := newMemo[int](3)
	for i := range 10 {
		m.put(strconv.Itoa(i), i, time.Hour)
	}
	if v, ok := m.get("9"); !ok || v != 9 || len(m.items) != 3 {
		t.Errorf("%d, %v, of %d remembered", v, ok, len(m.items))
	}
	m.put("9", 10, -1)
	if _, ok := m.get("9"); ok {
		t.Error("what has run out is still known")
	}
	m.put("9", 11, time.Hour)
	m.forget("9")
	if _, ok := m.get("9"); ok {
		t.Error("what was forgotten is still known")
	}
}
