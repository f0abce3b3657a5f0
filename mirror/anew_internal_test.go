package mirror

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// leaderless is JetStream while the stream of writes has no leader: what is asked of it is not answered.
type leaderless struct {
	jetstream.JetStream

	until time.Time
	asked int
}

func (l *leaderless) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if l.asked++; time.Now().Before(l.until) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return l.JetStream.Stream(ctx, name)
}

// A question that nobody answers is asked again, long before the time to open a mirror is over.
func TestNumberedWithoutLeader(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		m, err := Open(t.Context(), conn, Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		begin := time.Now()
		l := &leaderless{JetStream: m.js, until: begin.Add(time.Second)}
		m.js = l
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cfg := streamConfigs()[1]
		if err := m.numbered(ctx, &cfg); err != nil || cfg.FirstSeq != 0 || l.asked != 2 {
			t.Errorf("first number %d after %d questions, %v", cfg.FirstSeq, l.asked, err)
		}
		if took := time.Since(begin); took > 2*readTimeout {
			t.Errorf("it took %v", took)
		}
	})
}
