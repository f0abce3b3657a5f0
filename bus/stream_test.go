package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

const mib = 1 << 20

func streamConfig(name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".>"}}
}

// open opens a stream and returns the configuration it has at the server.
func open(t *testing.T, c *bus.Conn, cfg jetstream.StreamConfig) jetstream.StreamConfig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := c.OpenStream(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return info.Config
}

func TestOpenStreamCreates(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	begin := time.Now()
	got := open(t, c, streamConfig("ORDERS"))
	if took := time.Since(begin); took > soon {
		t.Errorf("took %v, want no waiting for replicas", took)
	}
	if got.Replicas != 1 || got.Discard != jetstream.DiscardNew || got.Storage != jetstream.FileStorage || got.MaxBytes <= 0 {
		t.Errorf("replicas %d, discard %v, storage %v, MaxBytes %d; want 1, DiscardNew, File and a limit", got.Replicas, got.Discard, got.Storage, got.MaxBytes)
	}
	if diff := cmp.Diff([]string{"orders.>"}, got.Subjects); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
}

func TestOpenStreamKeepsWhatIsSet(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	cfg := streamConfig("TIMERS")
	cfg.MaxBytes, cfg.Discard, cfg.Replicas, cfg.MaxMsgs, cfg.Retention = -1, jetstream.DiscardOld, 1, 7, jetstream.WorkQueuePolicy
	got := open(t, c, cfg)
	if got.MaxBytes != -1 || got.Discard != jetstream.DiscardOld || got.MaxMsgs != 7 || got.Retention != jetstream.WorkQueuePolicy {
		t.Errorf("MaxBytes %d, discard %v, MaxMsgs %d, retention %v", got.MaxBytes, got.Discard, got.MaxMsgs, got.Retention)
	}
}

// The caller's configuration is its own.
func TestOpenStreamLeavesTheConfig(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	cfg := streamConfig("ORDERS")
	open(t, c, cfg)
	if diff := cmp.Diff(streamConfig("ORDERS"), cfg); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestOpenStreamBinds(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	mine := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"mine"}, MaxBytes: 5 * mib, MaxMsgs: 9, Storage: jetstream.MemoryStorage}
	stream, err := c.JetStream().CreateStream(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.JetStream().Publish(t.Context(), "mine", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stream.CachedInfo().Config, open(t, c, streamConfig("ORDERS"))); diff != "" {
		t.Errorf("an existing stream was changed (-want +got):\n%s", diff)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Errorf("messages %d, %v, want 1", info.State.Msgs, err)
	}
}

// Several processes start at once, also of versions that want it differently.
func TestOpenStreamConcurrently(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for name, differ := range map[string]bool{"SAME": false, "DIFFERENT": true} {
		t.Run(name, func(t *testing.T) {
			const n = 8
			conns := make([]*bus.Conn, n)
			for i := range conns {
				conns[i] = connect(t, s, bus.Config{})
			}
			created := make([]time.Time, n)
			var wg sync.WaitGroup
			for i, c := range conns {
				wg.Go(func() {
					cfg := streamConfig(name)
					if differ {
						cfg.MaxMsgs = int64(i + 1)
					}
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					stream, err := c.OpenStream(ctx, cfg)
					if err != nil {
						t.Error(err)
						return
					}
					created[i] = stream.CachedInfo().Created
				})
			}
			wg.Wait()
			for i := range created {
				if !created[i].Equal(created[0]) {
					t.Errorf("opener %d has the stream of %v, opener 0 that of %v", i, created[i], created[0])
				}
			}
		})
	}
}

func TestOpenStreamScales(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Accounts = []*server.Account{server.NewAccount("SMALL"), server.NewAccount("BIG")}
		o.Users = []*server.User{{Username: "small", Account: o.Accounts[0]}, {Username: "big", Account: o.Accounts[1]}}
	}))
	enableJetStream(t, s, "SMALL", 100*mib)
	enableJetStream(t, s, "BIG", -1)
	tests := []struct {
		name   string
		user   string
		store  int64
		stream string
		want   int64
	}{
		{"a share of Store", "big", 1000 * mib, "SKYBUS_ASYNC", 80 * mib},
		{"a larger share", "big", 1000 * mib, "SKYBUS_MIR", 160 * mib},
		{"a bucket", "big", 1000 * mib, "KV_skybus_routes", 20 * mib},
		{"any other", "big", 1000 * mib, "OTHER", 10 * mib},
		{"the account's limit", "small", 0, "KV_skybus_config", 2 * mib},
		{"no limit counts as 1 GiB", "big", 0, "SKYBUS_DLQ", 1 << 30 / 100 * 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, s, bus.Config{Store: tt.store, Options: []nats.Option{nats.UserInfo(tt.user, "")}})
			if got := open(t, c, streamConfig(tt.stream)).MaxBytes; got < tt.want-100 || got > tt.want {
				t.Errorf("MaxBytes %d, want %d", got, tt.want)
			}
		})
	}
}

func enableJetStream(t *testing.T, s *bustest.Node, account string, store int64) {
	t.Helper()
	a, err := s.Server().LookupAccount(account)
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]server.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: store, MaxStreams: -1, MaxConsumers: -1}}
	if err := a.EnableJetStream(limits, nil); err != nil {
		t.Fatal(err)
	}
}

// Limits are reserved when a stream is made: where the share is not free, half of it may be.
func TestOpenStreamShrinks(t *testing.T) {
	t.Parallel()
	tests := map[string]jetstream.StorageType{"file": jetstream.FileStorage, "memory": jetstream.MemoryStorage}
	for name, storage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore, o.JetStreamMaxMemory = 20*mib, 20*mib }))
			c := connect(t, s, bus.Config{Store: 1000 * mib})
			cfg := streamConfig("SKYBUS_ASYNC")
			cfg.Storage = storage
			if got := open(t, c, cfg); got.MaxBytes < 10*mib || got.MaxBytes > 20*mib || got.Discard != jetstream.DiscardNew {
				t.Errorf("MaxBytes %d, discard %v, want half of the store or more", got.MaxBytes, got.Discard)
			}

			fillStore(t, c, storage)
			begin := time.Now()
			cfg.Name, cfg.Subjects = "SKYBUS_DLQ", nil
			_, err := c.OpenStream(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), "resources") {
				t.Errorf("with a full store: %v, want insufficient resources", err)
			}
			if took := time.Since(begin); took > soon {
				t.Errorf("took %v, want the error at once", took)
			}
		})
	}
}

// fillStore reserves the store until less is left than a stream of skybus takes.
func fillStore(t *testing.T, c *bus.Conn, storage jetstream.StorageType) {
	t.Helper()
	for size := int64(16 * mib); size >= mib/4; size /= 2 {
		cfg := streamConfig(fmt.Sprintf("FILL_%d", size))
		cfg.MaxBytes, cfg.Storage = size, storage
		_, err := c.JetStream().CreateStream(t.Context(), cfg)
		if _, full := errors.AsType[*jetstream.APIError](err); err != nil && !full {
			t.Fatal(err)
		}
	}
}

func TestOpenStreamErrors(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Accounts = []*server.Account{server.NewAccount("PLAIN"), server.NewAccount("FULL")}
		o.Users = []*server.User{{Username: "plain", Account: o.Accounts[0]}, {Username: "full", Account: o.Accounts[1]}}
	}))
	enableJetStream(t, s, "FULL", -1)
	plain := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("plain", "")}})
	full := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("full", "")}})
	closed := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("full", "")}})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, full, streamConfig("ORDERS"))
	overlap := streamConfig("OTHER")
	overlap.Subjects = []string{"orders.new"}
	tests := []struct {
		name string
		conn *bus.Conn
		cfg  jetstream.StreamConfig
		is   error
	}{
		{"no JetStream", plain, streamConfig("ORDERS"), jetstream.ErrJetStreamNotEnabledForAccount},
		{"no name", full, jetstream.StreamConfig{Subjects: []string{"x"}}, jetstream.ErrStreamNameRequired},
		{"bad name", full, streamConfig("A.B"), jetstream.ErrInvalidStreamName},
		{"bad subject", full, jetstream.StreamConfig{Name: "A", Subjects: []string{"a..b"}}, nil},
		{"overlap", full, overlap, nil},
		{"closed connection", closed, streamConfig("ORDERS"), nats.ErrConnectionClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			_, err := tt.conn.OpenStream(t.Context(), tt.cfg)
			if took := time.Since(begin); took > soon {
				t.Errorf("took %v, want the error at once", took)
			}
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v, want %v", err, tt.is)
			}
			if want := fmt.Sprintf("bus: open stream %q: ", tt.cfg.Name); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q does not begin with %q", err, want)
			}
		})
	}
}

func TestOpenStreamWaitsForTheServer(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	stopServer(t, s, c)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.OpenStream(ctx, streamConfig("ORDERS"))
	wantNotReady(t, err)

	done := openInBackground(t, c, "ORDERS")
	s.Start(t)
	if err := bustest.Receive(t, "stream", done); err != nil {
		t.Error(err)
	}
}

func openInBackground(t *testing.T, c *bus.Conn, name string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.OpenStream(t.Context(), streamConfig(name))
		done <- err
	}()
	return done
}

// wantNotReady fails the test unless err says whose fault it is and that time ran out.
func wantNotReady(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `bus: open stream "ORDERS": JetStream is not ready`) {
		t.Errorf("got %v, want that JetStream is not ready and the context's error", err)
	}
}

// A server that could not make the store of a stream is asked again: it may have been removing another one.
func TestOpenStreamWhileAnotherIsRemoved(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	open(t, c, streamConfig("FIRST")) // and with it the folder
	place := filepath.Join(s.Server().JetStreamConfig().StoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", "ORDERS")
	if err := os.WriteFile(place, nil, 0o600); err != nil { // the server clears it away when it has failed
		t.Fatal(err)
	}
	open(t, c, streamConfig("ORDERS"))
}

func TestOpenStreamCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	c := connectTo(t, g.URL())
	if got := open(t, c, streamConfig("FIRST")).Replicas; got != 3 {
		t.Errorf("replicas %d, want 3", got)
	}

	// Two of three servers down: no leader to create anything.
	g.Node(1).Stop()
	g.Node(2).Stop()
	bustest.Eventually(t, "connected to the one that is left", func() bool { return c.NATS().ConnectedUrl() == g.Node(0).URL() })
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, err := c.OpenStream(ctx, streamConfig("ORDERS"))
	wantNotReady(t, err)
	if !strings.Contains(err.Error(), "quorum") {
		t.Errorf("%v does not name the quorum", err)
	}

	done := openInBackground(t, c, "ORDERS")
	g.Node(1).Start(t)
	g.Node(2).Start(t)
	select {
	case err = <-done:
	case <-time.After(2 * patience): // an election takes up to 9 s
		t.Fatal("no stream")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := open(t, c, streamConfig("ORDERS")).Replicas; got != 3 {
		t.Errorf("replicas %d after the restart, want 3", got)
	}
}

// A cluster of two has no third replica to give; it is asked again until the third server comes.
func TestOpenStreamWaitsForReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 2)
	c := connectTo(t, g.URL())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := c.OpenStream(ctx, streamConfig("ORDERS"))
	wantNotReady(t, err)
	if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != 10005 {
		t.Errorf("%v does not hold what the server said last, 10005", err)
	}

	done := openInBackground(t, c, "ORDERS")
	route := g.Node(0).Server().ClusterAddr().String()
	bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		o.ServerName = "n2"
		o.Cluster = server.ClusterOpts{Name: "bustest", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		o.Routes = []*url.URL{{Scheme: "nats", Host: route}}
	}))
	select {
	case err = <-done:
	case <-time.After(2 * patience):
		t.Fatal("no stream")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := open(t, c, streamConfig("ORDERS")).Replicas; got != 3 {
		t.Errorf("replicas %d, want 3", got)
	}
}

// Every server of the cluster has less room than the stream's share of the nominal store.
func TestOpenStreamFitsClusterStore(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	const store = 1 << 30
	g := bustest.Cluster(t, 3, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = store }))
	c := connectTo(t, g.URL())
	cfg := open(t, c, jetstream.StreamConfig{Name: "SKYBUS_MIR", Subjects: []string{"skybus.mir.>"}})
	if cfg.Replicas != 3 || cfg.MaxBytes <= 0 || cfg.MaxBytes > store {
		t.Errorf("replicas %d, max bytes %d: want 3 and at most %d", cfg.Replicas, cfg.MaxBytes, store)
	}

	// What the caller asks for is not made smaller.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if s, err := c.OpenStream(ctx, jetstream.StreamConfig{Name: "ASKED", MaxBytes: 2 * store}); err == nil {
		t.Errorf("opened with max bytes %d", s.CachedInfo().Config.MaxBytes)
	}
}

// Where nobody says how large the store is, and it has no room for a share of what is assumed, what is there is shared, and the first stream does not take it all.
func TestOpenStreamFindsTheSize(t *testing.T) {
	t.Parallel()
	for _, store := range []int64{20 * mib, 40 * mib, 100 * mib, 160 * mib} {
		s := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = store }))
		c := connect(t, s, bus.Config{})
		var reserved int64
		for _, name := range []string{
			"SKYBUS_MIR", "SKYBUS_MIRW", "OBJ_skybus_mirror_bodies", "SKYBUS_MIRL", "KV_skybus_mirrors", "KV_skybus_leases", "SKYBUS_DLQ",
			"KV_skybus_instances", "KV_skybus_liveness", "KV_skybus_config", "KV_skybus_routes",
		} {
			cfg := streamConfig(name)
			cfg.Subjects = []string{name}
			reserved += open(t, c, cfg).MaxBytes
		}
		if reserved > store*9/10 {
			t.Errorf("of a store of %d MiB %d KiB are reserved", store/mib, reserved/1024)
		}
	}
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = mib / 2 }))
	for _, bytes := range []int64{0, 2 * mib} { // ours to choose, and asked for
		cfg := streamConfig("SKYBUS_MIR")
		cfg.MaxBytes = bytes
		_, err := connect(t, s, bus.Config{}).OpenStream(t.Context(), cfg)
		if bus.CodeOf(err) != bus.ResourceExhausted {
			t.Errorf("without any room: %v", err)
			continue
		}
		for _, want := range []string{"SKYBUS_MIR has to reserve some: give the server a larger store", "--max-store", "128 MiB", "--store-size"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("without any room it does not say %q: %v", want, err)
			}
		}
	}
}
