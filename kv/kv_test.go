package kv_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestPutGet(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	if got := table.Bucket(); got != "widgets" {
		t.Errorf("Bucket = %q", got)
	}
	rev := put(t, table, "a.b", 1)
	e, err := table.Get(t.Context(), "a.b")
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(e.Created); age < 0 || age > time.Minute {
		t.Errorf("created %v ago", age)
	}
	e.Created = time.Time{}
	want := kv.Entry[widget]{Key: "a.b", Value: widget{"a.b", 1}, Revision: rev}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	if rev2 := put(t, table, "a.b", 2); rev2 != rev+1 {
		t.Errorf("second revision %d after %d", rev2, rev)
	}
	if e, err := table.Get(t.Context(), "a.b"); err != nil || e.Value.Size != 2 {
		t.Errorf("Get = %v, %v", e, err)
	}
}

func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	rev, err := table.Create(ctx, "a", widget{"x", 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Create(ctx, "a", widget{"y", 2}); !errors.Is(err, kv.ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	if _, err := table.Update(ctx, "a", widget{"y", 2}, rev+1); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Update of a wrong revision: %v", err)
	} else if e, ok := errors.AsType[*jetstream.APIError](err); !ok || e.ErrorCode != 10071 {
		t.Errorf("the server's error is not in the chain of %v", err)
	}
	rev2, err := table.Update(ctx, "a", widget{"y", 2}, rev)
	if err != nil || rev2 <= rev {
		t.Errorf("Update = %d, %v after %d", rev2, err, rev)
	}
	if err := table.Delete(ctx, "a", kv.IfRevision(rev)); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Delete of an old revision: %v", err)
	}
	if err := table.Delete(ctx, "a", kv.IfRevision(0)); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Delete of revision 0: %v", err)
	}
	if err := table.Delete(ctx, "a", kv.IfRevision(rev2)); err != nil {
		t.Error(err)
	}
	if err := table.Delete(ctx, "a", kv.IfRevision(rev2)); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("second Delete: %v", err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for _, history := range []int{1, 5} {
		t.Run(fmt.Sprintf("history %d", history), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			table := open(t, connect(t, bustest.Server(t)), kv.Config{History: history})
			for range 2 {
				if err := table.Delete(ctx, "a"); err != nil {
					t.Errorf("Delete of nothing: %v", err)
				}
			}
			rev := put(t, table, "a", 1)
			for range 2 {
				if err := table.Delete(ctx, "a"); err != nil {
					t.Error(err)
				}
			}
			if _, err := table.Get(ctx, "a"); !errors.Is(err, kv.ErrNotFound) {
				t.Errorf("Get after Delete: %v", err)
			}
			rev2, err := table.Create(ctx, "a", widget{"a", 2})
			if err != nil || rev2 != rev+2 {
				t.Errorf("Create over a deletion = %d, %v; want %d", rev2, err, rev+2)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{History: 3})
	put(t, table, "a", 1)
	put(t, table, "b", 10)
	rev := put(t, table, "a", 2)
	if err := table.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	put(t, table, "a", 3)

	var got []string
	for e, err := range table.History(ctx, "a") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Revision, e.Value.Size, e.Deleted))
	}
	if diff := cmp.Diff([]string{"3 2 false", "4 0 true", "5 3 false"}, got); diff != "" {
		t.Error(diff)
	}
	for e, err := range table.History(ctx, "nothing") {
		t.Errorf("history of nothing: %v, %v", e, err)
	}

	if e, err := table.GetRevision(ctx, "a", rev); err != nil || e.Value.Size != 2 || e.Revision != rev {
		t.Errorf("GetRevision = %v, %v", e, err)
	}
	if e, err := table.GetRevision(ctx, "a", 4); err != nil || !e.Deleted {
		t.Errorf("GetRevision of a deletion = %v, %v", e, err)
	}
	for _, rev := range []uint64{0, 1, 2, 99} { // none, no longer kept, of another key, not yet
		if e, err := table.GetRevision(ctx, "a", rev); !errors.Is(err, kv.ErrNotFound) {
			t.Errorf("GetRevision of %d = %v, %v", rev, e, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{History: 2})
	for i, key := range []string{"b.x", "a.y", "a.x", "c", "a.z", "b.x", "a.x"} {
		put(t, table, key, i)
	}
	if err := table.Delete(t.Context(), "a.z"); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		">":   "a.x=6 a.y=1 b.x=5 c=3",
		"a.*": "a.x=6 a.y=1",
		"*.x": "a.x=6 b.x=5",
		"a.>": "a.x=6 a.y=1",
		"c":   "c=3",
		"d.>": "",
		"a.z": "",
	} {
		if got := list(t, table, pattern); got != want {
			t.Errorf("List(%q) = %q, want %q", pattern, got, want)
		}
	}
	for _, err := range table.List(t.Context(), ">") {
		if err != nil {
			t.Fatal(err)
		}
		break // must not go on
	}
}

func list(t *testing.T, table *kv.Table[widget], pattern string) string {
	t.Helper()
	var got []string
	for e, err := range table.List(t.Context(), pattern) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s=%d", e.Key, e.Value.Size))
	}
	return strings.Join(got, " ")
}

// More keys than the server answers at once, so that loading and catching up take another way.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	const keys = 1500
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{History: 2})
	var c *kv.Copy[widget]
	for round := range 2 {
		for i := range keys {
			msg := &nats.Msg{Subject: fmt.Sprintf("$KV.widgets.k.%d", i), Data: fmt.Appendf(nil, `{"size":%d}`, round)}
			if _, err := conn.JetStream().PublishMsgAsync(msg); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-conn.JetStream().PublishAsyncComplete():
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		if c == nil {
			c = copyOf(t, table, "k.>")
		}
		complete := func(m map[string]kv.Entry[widget]) bool {
			for _, e := range m {
				if e.Value.Size != round {
					return false
				}
			}
			return len(m) == keys
		}
		until(t, c, "all keys", complete)
	}
	n := 0
	for e, err := range table.List(ctx, ">") {
		if err != nil || e.Value.Size != 1 {
			t.Fatal(e, err)
		}
		n++
	}
	if n != keys {
		t.Errorf("List has %d keys, want %d", n, keys)
	}
}

func TestUndecodable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{})
	if _, err := conn.JetStream().Publish(ctx, "$KV.widgets.bad", []byte("{")); err != nil {
		t.Fatal(err)
	}
	put(t, table, "good", 1)
	e, err := table.Get(ctx, "bad")
	if err == nil || e.Err == nil || !errors.Is(err, e.Err) || e.Revision != 1 {
		t.Errorf("Get = %v, %v", e, err)
	}
	n := 0
	for e, err := range table.List(ctx, ">") {
		if n++; err != nil || (e.Err != nil) != (e.Key == "bad") {
			t.Errorf("List has %v, %v", e, err)
		}
	}
	if n != 2 {
		t.Errorf("List has %d entries", n)
	}
	if e, ok := copyOf(t, table, ">").Get("bad"); !ok || e.Err == nil {
		t.Errorf("Copy has %v, %v", e, ok)
	}
}

// Any NATS client reads and writes the bucket.
func TestReadableByNATS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{History: 3, Description: "of all sizes"})
	theirs, err := conn.JetStream().KeyValue(ctx, "widgets")
	if err != nil {
		t.Fatal(err)
	}
	status, err := theirs.Status(ctx)
	if err != nil || status.History() != 3 || status.LimitMarkerTTL() != time.Second {
		t.Errorf("status %v, %v", status, err)
	}
	put(t, table, "a", 1)
	if e, err := theirs.Get(ctx, "a"); err != nil || string(e.Value()) != `{"name":"a","size":1}` {
		t.Errorf("theirs: %v, %v", e, err)
	}
	if err := table.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Get(ctx, "a"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("theirs after our Delete: %v", err)
	}
	if _, err := theirs.Create(ctx, "a", []byte(`{"size":2}`)); err != nil {
		t.Error(err)
	}
	c := copyOf(t, table, ">")
	if e, _ := c.Get("a"); e.Value.Size != 2 {
		t.Errorf("copy has %v", e)
	}
	if err := theirs.Purge(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	until(t, c, "no a", lacks("a"))
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	for _, bad := range []struct {
		name string
		cfg  kv.Config
	}{
		{"", kv.Config{}},
		{"a.b", kv.Config{}},
		{"a b", kv.Config{}},
		{strings.Repeat("a", 65), kv.Config{}},
		{"a", kv.Config{History: 65}},
		{"a", kv.Config{History: -1}},
		{"a", kv.Config{MaxValue: -1}},
		{"a", kv.Config{MaxBytes: -1}},
		{"a", kv.Config{Check: -1}},
	} {
		if _, err := kv.Open[int](ctx, conn, bad.name, bad.cfg); err == nil {
			t.Errorf("Open(%q, %+v) is no error", bad.name, bad.cfg)
		}
	}
	cfg := jetstream.StreamConfig{Name: "KV_old", Subjects: []string{"$KV.old.>"}}
	if _, err := conn.JetStream().CreateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open[int](ctx, conn, "old", kv.Config{}); err == nil || !strings.Contains(err.Error(), "direct get") {
		t.Errorf("a bucket without direct get: %v", err)
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	table, err := kv.Open[[]byte](t.Context(), conn, "raw", kv.Config{Codec: bus.Raw{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Put(t.Context(), "a", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if e, err := table.Get(t.Context(), "a"); err != nil || string(e.Value) != "hello" {
		t.Errorf("Get = %v, %v", e, err)
	}
}

func TestWriteWaitsForConnection(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	conn := connect(t, server)
	table := open(t, conn, kv.Config{})
	server.Stop()
	bustest.Eventually(t, "the connection to break", func() bool { return !conn.NATS().IsConnected() })

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := table.Put(ctx, "a", widget{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put without a server: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := table.Put(t.Context(), "a", widget{"a", 7})
		done <- err
	}()
	server.Start(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if e, err := table.Get(t.Context(), "a"); err != nil || e.Value.Size != 7 {
		t.Errorf("Get = %v, %v", e, err)
	}
}

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{})
	ended := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		ended <- table.Follow(t.Context(), ">", func([]kv.Entry[widget]) { close(began) })
	}()
	<-began
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Follow ended with %v", err)
	}
	if _, err := table.Put(t.Context(), "a", widget{}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Put: %v", err)
	}
	if _, err := table.Get(t.Context(), "a"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Get: %v", err)
	}
	if _, err := table.Copy(t.Context(), ">"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Copy: %v", err)
	}
}
