package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// What is in progress is delivered to nobody else; after the release it is, as what a process had that died.
func TestKeepInProgress(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const ackWait = 10 * time.Second
		c := connect(t, bustest.Server(t), bus.Config{})
		open(t, c, streamConfig("ORDERS"))
		js := c.JetStream()
		if _, err := js.Publish(t.Context(), "orders.1", nil); err != nil {
			t.Fatal(err)
		}
		consumer, err := js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		release := bus.KeepInProgress(msg, ackWait)
		if again, err := consumer.Next(jetstream.FetchMaxWait(5 * ackWait)); err == nil {
			t.Errorf("it was delivered again: %v", again.Subject())
		}
		release()
		release()
		if _, err := consumer.Next(jetstream.FetchMaxWait(2 * ackWait)); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}
