package route_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

// Answers of JetStream that somebody has sent to the queue are no steps: they become dead letters, and nothing is called.
func TestAnswersOfJetStreamAreNoSteps(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var calls atomic.Int64
	h.serve(t, "app", "1.0.0", endpoint("drop", func(context.Context, []byte) ([]byte, error) {
		calls.Add(1)
		return nil, nil
	}))
	work(t, h.client)
	js := h.conn.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LOOT", Subjects: []string{"loot"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	header := bus.Envelope{RequestID: "forged", ContentType: bus.JSON{}.ContentType()}.Header()
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "loot", Header: header, Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the queue", func() bool {
		_, err := js.Stream(t.Context(), route.AsyncStream)
		return err == nil
	})
	asks := map[string]string{"$JS.API.DIRECT.GET.LOOT": `{"seq":1}`, "$JS.API.STREAM.MSG.GET.LOOT": `{"seq":1}`, "$JS.API.INFO": ""}
	for api, body := range asks {
		ask := &nats.Msg{Subject: api, Reply: h.conn.Namespace().AsyncSubject("app", "drop"), Data: []byte(body)}
		if err := h.conn.NATS().PublishMsg(ask); err != nil {
			t.Fatal(err)
		}
	}
	dead := route.NewDeadLetters(h.conn)
	bustest.Eventually(t, "the dead letters", func() bool { return len(letters(t, dead)) == len(asks) })
	for _, l := range letters(t, dead) {
		if err := dead.Redrive(t.Context(), l.ID); err != nil {
			t.Error(err)
		}
	}
	h.idle(t)
	if n := len(letters(t, dead)); n != len(asks) || calls.Load() != 0 {
		t.Errorf("%d dead letters of %d, %d calls", n, len(asks), calls.Load())
	}
}
