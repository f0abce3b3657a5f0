package scheduler_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/scheduler"
)

// lines is how many lines of a log have all of the words.
func (b *syncBuffer) lines(words ...string) (n int) {
	for line := range strings.Lines(string(b.Bytes())) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

// That deliveries of a shard wait is told once, and once that they go on.
func TestLullIsToldOnceAndItsEnd(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var log syncBuffer
		n, m := bustest.Server(t), newMemory(nil)
		cfg := config(m)
		cfg.Shards, cfg.Logger = 1, slog.New(slog.NewTextHandler(&log, nil))
		s := launch(t, n, cfg)
		set(t, s, scheduler.Spec{})
		time.Sleep(time.Minute) // fake time: long enough for what is told after a while
		count := func() (waiting, on int) {
			return log.lines("level=WARN", "deliveries of a shard are waiting"), log.lines("level=INFO", "deliveries of a shard go on", "shard=0", "waited=")
		}
		before, on := count() // a consumer that is just made may not answer yet
		if before != on {
			t.Errorf("after the start: %s", log.Bytes())
		}
		told := func(waiting, goOn int) {
			t.Helper()
			w, o := count()
			if w-before != waiting || o-on != goOn {
				t.Errorf("that they wait was told %d times and that they go on %d times, want %d and %d:\n%s", w-before, o-on, waiting, goOn, log.Bytes())
			}
		}
		if err := s.conn.JetStream().DeleteConsumer(t.Context(), "SKYBUS_TMR_0", "default=dev"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // fake time: long enough for what is told after a while
		told(1, 1)
		// The stream is gone, and then there is another one.
		stream, err := s.conn.JetStream().Stream(t.Context(), "SKYBUS_TMR_0")
		if err != nil {
			t.Fatal(err)
		}
		made := stream.CachedInfo().Config
		if err := s.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_TMR_0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // fake time: long enough for what is told after a while
		told(2, 1)
		if _, err := s.conn.JetStream().CreateStream(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // fake time: long enough for what is told after a while
		told(2, 2)
	})
}

// That a shard is lost is told once, and once that somebody has it again, whoever that is.
func TestVacancyIsToldOnceAndItsEnd(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var log syncBuffer
		cfg := config(newMemory(nil))
		cfg.Shards, cfg.Name, cfg.Logger = 1, "one", slog.New(slog.NewTextHandler(&log, nil))
		s := launch(t, bustest.Server(t), cfg)
		leases, err := kv.OpenLeases(t.Context(), s.conn)
		if err != nil {
			t.Fatal(err)
		}
		lose := func() {
			t.Helper()
			stream, err := s.conn.JetStream().Stream(t.Context(), "KV_skybus_leases")
			if err == nil {
				err = stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.skybus_leases.default.dev.timers.0"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		told := func(n int, by string) {
			t.Helper()
			time.Sleep(time.Minute) // fake time: long enough for what is told after a while
			lost, again := log.lines("level=WARN", "shard of timers lost"), log.lines("level=INFO", "shard of timers is fired on time again", "shard=0")
			if lost != n || again != n || n > 0 && log.lines("fired on time again", "by="+by) != 1 {
				t.Errorf("the loss was told %d times and its end %d times, want %d, the last one by %s:\n%s", lost, again, n, by, log.Bytes())
			}
		}
		told(0, "")
		lose()
		told(1, "one")
		lose()
		other, err := leases.Acquire(t.Context(), "default.dev.timers.0", "two", 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		told(2, "two")
		if err := other.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		told(2, "two")
	})
}
