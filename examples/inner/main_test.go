package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

// output is what both sides print.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) count(s string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.buf.String(), s)
}

func TestInner(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var served, called output
	go func() { done <- run(ctx, conn, []string{"serve"}, &served) }()
	if err := run(ctx, conn, []string{"call", "--every", "1ms", "--times", "20"}, &called); err != nil {
		t.Fatal(err)
	}
	if n := called.count("msg=mean"); n != 20 {
		t.Errorf("%d answers of 20: %s", n, called.buf.String())
	}
	if n := called.count("side=client endpoint=mean"); n != 20 {
		t.Errorf("the client's interceptor saw %d calls", n)
	}
	// The first readings may have been told before the service was there: nobody waits for a one-way message.
	bustest.Eventually(t, "readings to arrive", func() bool { return served.count("side=service endpoint=tell") > 0 })

	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := micro.Call[Mean](ctx, client, "thermometer.mean", struct{}{}); bus.CodeOf(err) != bus.Unauthenticated {
		t.Errorf("without the token: %v", err)
	}
	if _, err := micro.Call[[]byte](ctx, client, "thermometer.tell", Reading{Celsius: -300}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("colder than cold: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
