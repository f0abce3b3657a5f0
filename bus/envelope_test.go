package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

const (
	gateway = "skybus://shop.prod.gateway/g1"
	cart    = "skybus://shop.prod.cart/c1"
)

func fullEnvelope() bus.Envelope {
	return bus.Envelope{
		ContentType: "application/msgpack",
		RequestID:   "Zx7_-9",
		Attempt:     3,
		Call:        "call-1",
		Timeout:     1500 * time.Millisecond,
		Origin:      gateway,
		From:        cart,
		Prior:       42,
		OneWay:      true,
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
}

func TestEnvelopeHeader(t *testing.T) {
	t.Parallel()
	want := nats.Header{
		"Content-Type":      {"application/msgpack"},
		"Skybus-Request-Id": {"Zx7_-9"},
		"Skybus-Attempt":    {"3"},
		"Skybus-Call":       {"call-1"},
		"Skybus-Timeout":    {"1500"},
		"Skybus-From":       {gateway + " " + cart},
		"Skybus-Prior":      {"42"},
		"Skybus-One-Way":    {"1"},
		"traceparent":       {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
	if diff := cmp.Diff(want, fullEnvelope().Header()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, e := range map[string]bus.Envelope{"zero": {}, "first attempt": {Attempt: 1}, "no time left": {Timeout: -time.Second}} {
		if h := e.Header(); len(h) != 0 {
			t.Errorf("%s: %v is sent, want nothing", name, h)
		}
	}
}

func TestEnvelopeTimeout(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]string{
		time.Nanosecond:           "1", // none would mean no limit
		999 * time.Microsecond:    "1",
		1999 * time.Microsecond:   "1",
		24 * time.Hour:            "86400000",
		48 * time.Hour:            "86400000", // more would be refused
		365 * 24 * time.Hour:      "86400000",
		time.Duration(1<<63 - 1):  "86400000",
		10*time.Second + 1:        "10000",
		2*time.Second - 1:         "1999",
		time.Second + time.Second: "2000",
	} {
		h := bus.Envelope{Timeout: timeout}.Header()
		if got := h.Get("Skybus-Timeout"); got != want {
			t.Errorf("%v is sent as %q ms, want %q", timeout, got, want)
		}
		if _, err := bus.ReadEnvelope(h); err != nil {
			t.Errorf("%v is sent and not understood: %v", timeout, err)
		}
	}
}

// An envelope, through a server.
func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	got := inbox(t, c, "env")
	tests := map[string]struct{ sent, want bus.Envelope }{
		"zero":            {bus.Envelope{}, bus.Envelope{Attempt: 1}},
		"full":            {fullEnvelope(), fullEnvelope()},
		"caller alone":    {bus.Envelope{From: cart}, bus.Envelope{Attempt: 1, Origin: cart, From: cart}},
		"caller began it": {bus.Envelope{Origin: cart, From: cart}, bus.Envelope{Attempt: 1, Origin: cart, From: cart}},
		"two":             {bus.Envelope{Origin: gateway, From: cart}, bus.Envelope{Attempt: 1, Origin: gateway, From: cart}},
		"attempt 1000":    {bus.Envelope{Attempt: 1000}, bus.Envelope{Attempt: 1000}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := c.Publish(&nats.Msg{Subject: "env", Header: tt.sent.Header()}); err != nil {
				t.Fatal(err)
			}
			e, err := bus.ReadEnvelope(bustest.Receive(t, "message", got).Header)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, e); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Two addresses of the longest names must fit.
func TestEnvelopeLongestAddresses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", bus.MaxToken)
	a := bus.Address{Namespace: bus.Namespace{App: long, Env: long}, Service: long, Instance: long}
	b := a
	b.Instance = strings.Repeat("m", bus.MaxToken)
	e, err := bus.ReadEnvelope(bus.Envelope{Origin: a.String(), From: b.String()}.Header())
	if err != nil || e.Origin != a.String() || e.From != b.String() {
		t.Errorf("got %q and %q, %v", e.Origin, e.From, err)
	}
}

func TestReadEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 601)
	tests := map[string][]string{
		bus.HeaderContentType: {long},
		bus.HeaderRequestID:   {long},
		bus.HeaderCall:        {long},
		bus.HeaderFrom:        {long, strings.Repeat("a ", 301)},
		bus.HeaderTraceparent: {long},
		bus.HeaderAttempt:     {"0", "-1", "1001", "x", "1.5", "1e2", " 1", "99999999999999999999", long},
		bus.HeaderTimeout:     {"0", "-1", "86400001", "x", "1s", "1.5", "99999999999999999999", long},
		bus.HeaderPrior:       {"-1", "x", "0x10", "99999999999999999999", long},
	}
	for header, values := range tests {
		t.Run(header, func(t *testing.T) {
			for _, v := range values {
				_, err := bus.ReadEnvelope(nats.Header{header: {v}})
				if err == nil {
					t.Errorf("%.20q: accepted", v)
					continue
				}
				wantRefused(t, err)
				if !strings.Contains(err.Error(), header) {
					t.Errorf("%.20q: the error does not name the header: %v", v, err)
				}
			}
		})
	}
}

// Header names of NATS are case-sensitive, and empty values are as good as none.
func TestReadEnvelopeIgnores(t *testing.T) {
	t.Parallel()
	h := nats.Header{
		"skybus-attempt": {"x"}, "SKYBUS-TIMEOUT": {"x"}, "Traceparent": {"x"}, "X-Other": {strings.Repeat("x", 5000)},
		bus.HeaderAttempt: {""}, bus.HeaderTimeout: {}, bus.HeaderOneWay: nil, bus.HeaderRequestID: {"first", "second"},
	}
	got, err := bus.ReadEnvelope(h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bus.Envelope{Attempt: 1, RequestID: "first"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := bus.ReadEnvelope(nil); err != nil || got != (bus.Envelope{Attempt: 1}) {
		t.Errorf("no headers: got %+v, %v", got, err)
	}
}

func FuzzReadEnvelope(f *testing.F) {
	wire := func(h nats.Header) []byte {
		b := []byte("NATS/1.0\r\n")
		for key, values := range h {
			for _, v := range values {
				b = append(b, key+": "+v+"\r\n"...)
			}
		}
		return append(b, "\r\n"...)
	}
	f.Add(wire(nil))
	f.Add(wire(fullEnvelope().Header()))
	f.Add(wire(nats.Header{bus.HeaderFrom: {" a  b c "}, bus.HeaderTimeout: {"86400000"}, bus.HeaderAttempt: {"+7"}}))
	f.Add(wire(nats.Header{bus.HeaderPrior: {"-0"}, bus.HeaderOneWay: {"0"}, bus.HeaderTimeout: {"-1"}}))
	f.Add([]byte("NATS/1.0 503 No Responders\r\n\r\n"))
	f.Add([]byte("NATS/1.0\r\nSkybus-Attempt:\t\x00\xff\r\n folded\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := nats.DecodeHeadersMsg(data)
		if err != nil {
			return
		}
		e, err := bus.ReadEnvelope(h)
		if err != nil {
			wantRefused(t, err)
			return
		}
		if e.Attempt < 1 || e.Attempt > 1000 || e.Timeout < 0 || e.Timeout > 24*time.Hour || e.Prior < 0 {
			t.Errorf("out of range: %+v", e)
		}
		again, err := bus.ReadEnvelope(e.Header())
		if err != nil || again != e {
			t.Errorf("read %+v, written and read again %+v, %v", e, again, err)
		}
	})
}
