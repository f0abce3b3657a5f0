package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// payload is about 128 bytes when encoded.
type payload struct {
	ID    string  `json:"id"`
	Count int64   `json:"count"`
	Price float64 `json:"price"`
	OK    bool    `json:"ok"`
	Text  string  `json:"text"`
}

func newPayload() payload {
	return payload{ID: "o-4711", Count: 123456, Price: 12.5, OK: true, Text: strings.Repeat("x", 80)}
}

func BenchmarkMessagePackMarshal(b *testing.B) {
	v := newPayload()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (bus.MessagePack{}).Marshal(&v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessagePackUnmarshal(b *testing.B) {
	data, err := bus.MessagePack{}.Marshal(newPayload())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var v payload
		if err := (bus.MessagePack{}).Unmarshal(data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvelopeHeader(b *testing.B) {
	e := bus.Envelope{ContentType: "application/msgpack", RequestID: "Zx7_-9", Timeout: time.Second, From: cart}
	b.ReportAllocs()
	for b.Loop() {
		if len(e.Header()) != 4 {
			b.Fatal(e.Header())
		}
	}
}

func BenchmarkReadEnvelope(b *testing.B) {
	h := bus.Envelope{ContentType: "application/msgpack", RequestID: "Zx7_-9", Timeout: time.Second, From: cart}.Header()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.ReadEnvelope(h); err != nil {
			b.Fatal(err)
		}
	}
}

// One caller, one service, one server, all in this process.
func BenchmarkRequest(b *testing.B) {
	s := bustest.Server(b)
	service, caller := connect(b, s, bus.Config{}), connect(b, s, bus.Config{})
	echo(b, service)
	ctx := b.Context()
	data := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := caller.Request(ctx, &nats.Msg{Subject: "echo", Data: data}); err != nil {
			b.Fatal(err)
		}
	}
}
