package scheduler_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// The first scheduler decides how many shards there are. Who wants another number is told, who wants any gets those.
func TestShardsAreDecidedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(t, scheduler.Config{Shards: 3})
	r.open(t, scheduler.Config{})
	r.open(t, scheduler.Config{Shards: 3})
	_, err := scheduler.Open(t.Context(), r.conn, scheduler.Config{Shards: 4})
	if bus.CodeOf(err) != bus.FailedPrecondition || !strings.Contains(err.Error(), "3 shards") {
		t.Errorf("four shards where there are three: %v", err)
	}
}

// Where nobody says how many, a cluster has few: each shard is forced to disk by itself, on three servers.
func TestDefaultShards(t *testing.T) {
	t.Parallel()
	single := newRig(t)
	single.open(t, scheduler.Config{})
	if got := countShards(t, single.conn); got != scheduler.DefaultShards {
		t.Errorf("on a server alone: %d shards, want %d", got, scheduler.DefaultShards)
	}
	if testing.Short() {
		return
	}
	node := bustest.Cluster(t, 3).Node(0)
	cluster := &rig{node, connect(t, node)}
	cluster.open(t, scheduler.Config{})
	if got := countShards(t, cluster.conn); got != scheduler.DefaultClusterShards {
		t.Errorf("on a cluster: %d shards, want %d", got, scheduler.DefaultClusterShards)
	}
}

func countShards(t *testing.T, conn *bus.Conn) (n int) {
	t.Helper()
	streams := conn.JetStream().StreamNames(t.Context(), jetstream.WithStreamListSubject("skybus.tmr.>"))
	for range streams.Name() {
		n++
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Who makes the shards makes the stream of dead letters, too, since who only delivers may make neither.
func TestShardsBringDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(t, scheduler.Config{})
	if err := r.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_DLQ"); err != nil {
		t.Errorf("after the first was opened: %v", err)
	}
	r.open(t, scheduler.Config{})
	if _, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_DLQ"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("after the second was opened: %v, want it left alone", err)
	}
}

// The first scheduler decides whether shards are compressed.
func TestShardsAreCompressed(t *testing.T) {
	t.Parallel()
	for compress, want := range map[bool]jetstream.StoreCompression{false: jetstream.NoCompression, true: jetstream.S2Compression} {
		r := newRig(t)
		r.open(t, scheduler.Config{Compress: compress})
		r.open(t, scheduler.Config{Compress: !compress})
		stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_TMR_0")
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.Compression; got != want {
			t.Errorf("with %t: %v", compress, got)
		}
	}
}

// Who delivers makes the stream of dead letters where it is missing, before there is a letter.
func TestWorkersBringDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{})
	if err := r.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_DLQ"); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	eventually(t, "the stream", func() bool {
		_, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_DLQ")
		return err == nil
	})
}

// A server without JetStream is told of after a moment, also to who would wait for ever, and an account without it at once.
func TestOpenWithoutJetStream(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		plain, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true})
		if err != nil {
			t.Fatal(err)
		}
		plain.Start()
		t.Cleanup(func() {
			plain.Shutdown()
			plain.WaitForShutdown()
		})
		account := bustest.Server(t, bustest.Configure(func(o *server.Options) {
			o.Accounts = []*server.Account{server.NewAccount("plain")}
			o.Users = []*server.User{{Username: "plain", Account: o.Accounts[0]}}
		}))
		for _, tt := range []struct {
			server nats.InProcessConnProvider
			want   string
			code   bus.Code
			most   time.Duration
		}{
			{plain, "JetStream is not ready: no server that has it", bus.Unavailable, 5 * time.Second},
			{account, "this account has none", bus.FailedPrecondition, time.Second},
		} {
			conn, err := bus.Connect(t.Context(), bus.Config{InProcess: tt.server, Options: []nats.Option{nats.UserInfo("plain", "")}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			begin := time.Now()
			_, err = scheduler.Open(t.Context(), conn, scheduler.Config{})
			if took := time.Since(begin); bus.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || took > tt.most {
				t.Errorf("after %s: %v", took, err)
			}
		}
	})
}
