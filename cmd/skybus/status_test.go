package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

// TestStatus looks at a cluster that is whole, at one that lacks a server, and at one without a majority.
func TestStatus(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	nc := g.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "SKYBUS_ASYNC", Subjects: []string{"full.>"}, Replicas: 3, MaxBytes: 4096, Discard: jetstream.DiscardNew,
	}); err != nil {
		t.Fatal(err)
	}
	g.WaitReady(t)
	look := func(want int) platformStatus {
		t.Helper()
		code, out, errs := runs(t.Context(), &cli{}, "status", "--server", g.URL(), "-o", "json")
		var s platformStatus
		if err := json.Unmarshal([]byte(out), &s); code != want || err != nil {
			t.Fatalf("code %d, want %d, output %s, errors %s, error %v", code, want, out, errs, err)
		}
		return s
	}
	if s := look(0); len(s.Servers) != 3 || len(s.Streams) != 1 || s.Streams[0].Copies != 3 || s.Streams[0].Leader == "" {
		t.Errorf("%+v, want 3 servers, and one stream of 3 copies with a leader", s)
	}

	for range 4 {
		if _, err := js.Publish(t.Context(), "full.x", make([]byte, 900)); err != nil {
			t.Fatal(err)
		}
	}
	if s := look(1); !told(s, "stream SKYBUS_ASYNC is 9") {
		t.Errorf("%+v, want a stream that is nearly full", s.Faults)
	}
	if err := js.DeleteStream(t.Context(), "SKYBUS_ASYNC"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "skybus_x", Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "skybus_y", Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	if s := look(1); !told(s, "one copy only, in a cluster: KV_skybus_x") {
		t.Errorf("%+v, want a stream of one copy", s.Faults)
	}

	loseServers(t, g, "KV_skybus_y")
}

// loseServers stops a server that does not lead a stream, and then the other one.
func loseServers(t *testing.T, g *bustest.Group, stream string) {
	t.Helper()
	leader := g.Leader(t, stream)
	gone := g.Node((leader + 1) % 3)
	name := gone.Server().Name()
	gone.Stop()
	bustest.Eventually(t, "a server that is away", func() bool {
		code, out, _ := runs(t.Context(), &cli{}, "status", "--server", g.URL())
		return code == 1 && strings.Contains(out, "server "+name+" is away")
	})

	g.Node((leader + 2) % 3).Stop()
	bustest.Eventually(t, "a cluster without a majority", func() bool {
		code, _, errs := runs(t.Context(), &cli{}, "status", "--server", g.URL(), "--timeout", "2s")
		return code == 1 && strings.Contains(errs, "no server lists the streams") && strings.Contains(errs, "a majority of its servers is away")
	})
}

// TestStatusOfLogs has a stream that is full, and drops what is old for what is new: nothing is wrong with that.
func TestStatusOfLogs(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	js := connectTo(t, s).JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LOGS", Subjects: []string{"logs"}, MaxBytes: 4096, Discard: jetstream.DiscardOld}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := js.Publish(t.Context(), "logs", make([]byte, 900)); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := runs(t.Context(), &cli{}, "status", "--server", s.URL())
	if code != 0 || !strings.Contains(out, "91 %") || strings.Contains(out, "LOGS is") {
		t.Errorf("code %d, output %s, errors %s, want nothing wrong with a full log", code, out, errs)
	}
}

// TestStatusDenied has a user who may not list streams: that is told, and at once.
func TestStatusDenied(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.NAMES"}}}}}
		o.NoAuthUser = "u"
	}))
	begin := time.Now()
	code, _, errs := runs(t.Context(), &cli{}, "status", "--server", s.URL(), "--timeout", "1m")
	if took := time.Since(begin); code != 1 || !strings.Contains(errs, "$JS.API.STREAM.NAMES") || strings.Contains(errs, "majority") || took > 30*time.Second {
		t.Errorf("code %d after %s, errors %s, want what the user may not do", code, took, errs)
	}
}

// TestStatusAsks asks for a stream that went away since it was listed, and for one when the time is up: no server is away for that.
func TestStatusAsks(t *testing.T) {
	t.Parallel()
	conn := connectTo(t, bustest.Server(t))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	gone, late := streamStatus{Name: "GONE"}, streamStatus{Name: "LATE"}
	gone.ask(t.Context(), conn)
	late.ask(over, conn)
	if !gone.gone || gone.Error != "" || !late.Unasked || late.Error != "" {
		t.Errorf("%+v, %+v", gone, late)
	}
	s := platformStatus{Streams: []streamStatus{late}}
	if s.judge(); len(s.Faults) != 1 || !told(s, "not asked in time: 1 stream") {
		t.Errorf("%+v", s.Faults)
	}
}

// TestStatusInstances has an instance that gives no sign of life.
func TestStatusInstances(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	putInstances(t, connectTo(t, s))
	code, out, errs := runs(t.Context(), &cli{}, "status", "--server", s.URL())
	if code != 1 || !strings.Contains(out, "service shop: 1 instance died or stand still, 1 online") || !strings.Contains(errs, "1 fault") {
		t.Errorf("code %d, output %s, errors %s, want an instance that died", code, out, errs)
	}
}

func told(s platformStatus, what string) bool {
	for _, f := range s.Faults {
		if strings.HasPrefix(f.What, what) && f.Do != "" {
			return true
		}
	}
	return false
}

func TestSizeText(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1<<64 - 1: "16.0 EiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
