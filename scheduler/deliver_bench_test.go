package scheduler_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// BenchmarkDeliver is what a delivery costs, with a transport that costs nothing: reading, dispatching, events and acknowledgements,
// and the server's part, since that runs in the same process.
func BenchmarkDeliver(b *testing.B) {
	n := bustest.Server(b)
	conn, err := bus.Connect(b.Context(), bus.Config{InProcess: n})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server goes, too
	const batch = 20_000
	var delivered atomic.Int64
	m := counting{&delivered}
	s, err := scheduler.Open(b.Context(), conn, scheduler.Config{Transports: map[string]scheduler.Transport{"memory": m}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var took time.Duration
	total := 0
	for b.Loop() {
		b.StopTimer()
		fill(b, conn, batch, total)
		total += batch
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		b.StartTimer()
		began := time.Now()
		go func() { ended <- s.Run(ctx) }()
		bustest.Eventually(b, "the deliveries", func() bool { return delivered.Load() >= int64(total) })
		took += time.Since(began)
		b.StopTimer()
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(total)/took.Seconds(), "deliveries/s")
}

type counting struct{ n *atomic.Int64 }

func (counting) Check(context.Context, scheduler.Target) error { return nil }

func (c counting) Deliver(context.Context, *scheduler.Delivery) error {
	c.n.Add(1)
	return nil
}

// fill stores n messages that are due, of as many timers.
func fill(b *testing.B, conn *bus.Conn, n, from int) {
	b.Helper()
	js, err := jetstream.New(conn.NATS(), jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	h := nats.Header{"Skybus-Fired-Ns": {strconv.FormatInt(now.UnixNano(), 10)}}
	for i := range n {
		id := fmt.Sprint("timer-", from+i)
		_, err := js.PublishMsgAsync(&nats.Msg{
			Subject: "skybus.tmr." + strconv.Itoa(i%4) + ".f.default.dev." + id,
			Header:  h,
			Data:    []byte(body(b, `{"g":"abcdefgh","n":1,"c":1700000000000000000,"t":{"transport":"memory","uri":"memory://a/`+strconv.Itoa(i%8)+`"}}`, now, strings.Repeat("x", 100))),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}
