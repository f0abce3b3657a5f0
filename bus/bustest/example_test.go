package bustest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

// A test takes a server for itself: func TestEcho(t *testing.T) has these lines.
func ExampleServer() {
	t := &exampleT{} // in a test: its *testing.T
	defer t.end()

	nc := bustest.Server(t).Connect(t)
	if _, err := nc.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	reply, err := nc.Request("echo", []byte("hello"), time.Second)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	fmt.Println(string(reply.Data))
	// Output: hello
}

// What was acknowledged is there after a restart, and the connection comes back by
// itself.
func ExampleNode_Restart() {
	t := &exampleT{} // in a test: its *testing.T
	defer t.end()
	ctx := context.Background() // in a test: t.Context()

	s := bustest.Server(t)
	js, err := jetstream.New(s.Connect(t))
	if err != nil {
		t.Fatalf("jetstream: %v", err)
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "settings"})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if _, err := kv.PutString(ctx, "colour", "blue"); err != nil {
		t.Fatalf("put: %v", err)
	}

	s.Restart(t)

	e, err := kv.Get(ctx, "colour")
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	fmt.Println(string(e.Value()))
	// Output: blue
}

// Two hours pass at once: func TestSessionEnds(t *testing.T) has these lines.
func ExampleBubble() {
	var t *testing.T // in a test: its own

	bustest.Bubble(t, func(t *testing.T) {
		js, err := jetstream.New(bustest.Server(t).Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "sessions", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "ann", "logged in"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // takes no time
		if _, err := kv.Get(t.Context(), "ann"); err == nil {
			t.Error("the session of ann did not end")
		}
	})
}

// An example has no testing.TB: it opens a server and closes it itself.
func ExampleOpen() {
	s, err := bustest.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()

	nc, err := nats.Connect(s.URL(), nats.InProcessServer(s))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	fmt.Println(nc.Status())
	// Output: CONNECTED
}
