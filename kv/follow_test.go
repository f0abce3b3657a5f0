package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	put(t, table, "b", 1)
	put(t, table, "a", 2)
	put(t, table, "gone", 3)
	if err := table.Delete(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range table.Watch(ctx, "*") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s=%d %v", e.Key, e.Value.Size, e.Deleted))
		switch len(got) {
		case 3: // the state is complete
			put(t, table, "c.d", 4)
			put(t, table, "a", 5)
		case 4:
			if err := table.Delete(ctx, "b"); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) == 5 {
			break
		}
	}
	want := []string{"b=1 false", "a=2 false", "=0 false", "a=5 false", "b=0 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWatchEndsWithContext(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for e, err := range table.Watch(ctx, ">") {
		if n++; err != nil || e.Key != "" {
			t.Errorf("%v, %v", e, err)
		}
		cancel()
	}
	if n != 1 {
		t.Errorf("%d entries, want only the one that says complete", n)
	}
}

// What happens while the follower is busy is told once per key, and not at all of a key that came and went.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	put(t, table, "old", 0)
	first, busy := make(chan struct{}), make(chan struct{})
	var batches [][]kv.Entry[widget]
	var revision uint64
	ended := make(chan error, 1)
	go func() {
		ended <- table.Follow(ctx, ">", func(batch []kv.Entry[widget]) {
			batches = append(batches, batch)
			if len(batches) == 1 {
				close(first)
				<-busy
			}
			if batch[len(batch)-1].Key == "last" {
				cancel()
			}
		})
	}()
	<-first
	other := copyOf(t, table, ">")
	for i := range 500 {
		revision = put(t, table, "a", i)
	}
	put(t, table, "fleeting", 1)
	for _, key := range []string{"fleeting", "old"} {
		if err := table.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	put(t, table, "last", 1)
	until(t, other, "last", hasSize("last", 1))
	// Another feed had it; this one is given the same again.
	put(t, table, "last", 2)
	until(t, other, "last", hasSize("last", 2))
	close(busy)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, batch := range batches[1:] {
		before := uint64(0)
		for _, e := range batch {
			told[e.Key]++
			if e.Revision <= before {
				t.Errorf("revision %d after %d", e.Revision, before)
			}
			before = e.Revision
			if e.Key == "a" && e.Revision != revision {
				t.Errorf("a has revision %d, want the last, %d", e.Revision, revision)
			}
			if e.Deleted != (e.Key == "old") {
				t.Errorf("%s deleted: %v", e.Key, e.Deleted)
			}
		}
	}
	if told["a"] != 1 || told["fleeting"] != 0 || told["old"] != 1 || told["last"] == 0 {
		t.Errorf("told %v", told)
	}
}

func TestCopyChanged(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	c := copyOf(t, table, ">")
	before, changed := c.All(), c.Changed()
	select {
	case <-changed:
		t.Fatal("changed before anything changed")
	default:
	}
	put(t, table, "a", 1)
	<-changed
	if len(before) != 0 || len(c.All()) != 1 {
		t.Errorf("before %v, now %v", before, c.All())
	}
	changed = c.Changed()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	put(t, table, "a", 2)
	select {
	case <-changed:
		t.Error("changed after Close")
	default:
	}
	if e, ok := c.Get("a"); !ok || e.Value.Size != 1 {
		t.Errorf("after Close: %v, %v", e, ok)
	}
}

func TestCopyGivesUp(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	table := open(t, connect(t, server), kv.Config{})
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := table.Copy(ctx, ">"); err == nil || ctx.Err() == nil {
		t.Errorf("Copy without a server: %v", err)
	}
}

// A bucket that others made may have no feed: the checks find the changes alone, deletions included.
func TestFollowWithoutFeed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	theirs, err := conn.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "widgets"})
	if err != nil {
		t.Fatal(err)
	}
	table := open(t, conn, kv.Config{Check: 20 * time.Millisecond})
	put(t, table, "a.x", 1)
	for _, pattern := range []string{">", "a.*", "a.x"} {
		c := copyOf(t, table, pattern)
		put(t, table, "a.x", 2)
		until(t, c, "a.x", hasSize("a.x", 2))
		if err := theirs.Delete(ctx, "a.x"); err != nil {
			t.Fatal(err)
		}
		until(t, c, "no a.x", lacks("a.x"))
		put(t, table, "a.x", 1)
		until(t, c, "a.x", hasSize("a.x", 1))
	}
}

// One message of the feed is lost. The next shows it: by the sequence, or by the sequence before it on the same key.
func TestLostMessage(t *testing.T) {
	for _, c := range []struct{ pattern, lost, next string }{{">", "a.lost", "a.next"}, {"a.*", "a.lost", "a.lost"}} {
		t.Run(c.pattern, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				conn := connect(t, bustest.Server(t))
				table := open(t, conn, kv.Config{Check: 24 * time.Hour})
				put(t, table, "a.other", 1)
				copied := copyOf(t, table, c.pattern)
				time.Sleep(time.Minute / 2) // what follows a load is over

				with := streamOf(t, conn).CachedInfo().Config
				without := with
				without.RePublish = nil
				js := conn.JetStream()
				if _, err := js.UpdateStream(t.Context(), without); err != nil {
					t.Fatal(err)
				}
				put(t, table, c.lost, 1)
				put(t, table, "a.other", 2)
				if _, err := js.UpdateStream(t.Context(), with); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if e, ok := copied.Get(c.lost); ok {
					t.Fatalf("nothing was lost: %v", e)
				}
				put(t, table, c.next, 2)
				took := until(t, copied, "what was lost", func(m map[string]kv.Entry[widget]) bool {
					return hasSize(c.next, 2)(m) && !lacks(c.lost)(m) && hasSize("a.other", 2)(m)
				})
				checkPromise(t, "lost message", took)
			})
		})
	}
}

// Nobody is told of a purge.
func TestPurged(t *testing.T) {
	for _, pattern := range []string{">", "a.*"} {
		t.Run(pattern, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				conn := connect(t, bustest.Server(t))
				table := open(t, conn, kv.Config{})
				put(t, table, "a.x", 1)
				put(t, table, "a.y", 1)
				c := copyOf(t, table, pattern)
				time.Sleep(time.Second)
				if err := streamOf(t, conn).Purge(t.Context(), jetstream.WithPurgeSubject("$KV.widgets.a.x")); err != nil {
					t.Fatal(err)
				}
				put(t, table, "a.y", 2) // hides that there are fewer
				put(t, table, "a.z", 2)
				began := time.Now()
				for len(c.All()) != 2 || !lacks("a.x")(c.All()) {
					if time.Sleep(time.Second); time.Since(began) > 80*time.Second {
						t.Fatalf("still has %v", c.All())
					}
				}
				t.Logf("found after %v", time.Since(began))
			})
		})
	}
}

func TestNoGoroutineStays(t *testing.T) {
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		c := copyOf(t, table, ">")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range table.Watch(ctx, ">") {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := table.Follow(ctx, ">", func([]kv.Entry[widget]) { cancel() }); err != nil {
		t.Fatal(err)
	}
	put(t, table, "a", 1)
	bustest.Eventually(t, "no goroutine of the package", func() bool {
		var stacks bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
			t.Fatal(err)
		}
		for stack := range strings.SplitSeq(stacks.String(), "\n\n") {
			if strings.Contains(stack, "skybus/kv.(*") {
				t.Log(stack)
				return false
			}
		}
		return true
	})
}

// Elections are told of until that is stopped, without waiting for who has not looked yet.
func TestNotifyElected(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{})
	full, told := make(chan struct{}), make(chan struct{}, 1)
	defer table.NotifyElected(full)()
	stop := table.NotifyElected(told)
	elect := func() {
		if err := conn.NATS().Publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_widgets", nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		elect()
		bustest.Eventually(t, "an election", func() bool { return len(told) == 1 })
		<-told
	}
	stop()
	elect()
	<-time.After(50 * time.Millisecond)
	if len(told) > 0 {
		t.Error("told after the stop")
	}
}
