package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// TestInstancesOfEachState lists an instance that takes requests, one that wants none, and one that died.
func TestInstancesOfEachState(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	conn := connectTo(t, s)
	records, err := kv.Open[registry.Record](t.Context(), conn, registry.InstancesBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	liveness, err := kv.Open[registry.Load](t.Context(), conn, registry.LivenessBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	endpoints := []registry.Endpoint{{Name: "get"}, {Name: "count"}}
	for _, i := range []struct {
		record registry.Record
		load   *registry.Load
	}{
		{registry.Record{
			Service: "shop", Instance: "b", Version: "1.1.0", Region: "north", Host: "h1", PID: 7, Registered: true,
			Started: time.Now().Add(-25 * time.Hour), Endpoints: endpoints,
		}, &registry.Load{InFlight: 3, Limit: 256, Latency: 1500, Shed: 2}},
		{registry.Record{Service: "shop", Instance: "a", Version: "1.0.0", Started: time.Now().Add(-90 * time.Minute), Endpoints: endpoints[:1]}, &registry.Load{}},
		{registry.Record{Service: "shop", Instance: "c", Version: "1.0.0", Registered: true, Started: time.Now()}, nil},
	} {
		key := conn.Namespace().Key(i.record.Service, i.record.Instance)
		if i.load != nil {
			if _, err := liveness.Put(t.Context(), key, *i.load); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := records.Put(t.Context(), key, i.record); err != nil {
			t.Fatal(err)
		}
	}
	const want = `SERVICE  INSTANCE  VERSION  STATE         IN FLIGHT  UP     REGION  HOST  PID  LATENCY  SHED  ENDPOINTS
shop     a         1.0.0    unregistered  0          1h30m  -       -     0    0s       0     get
shop     b         1.1.0    online        3          1d1h   north   h1    7    1.5ms    2     get count
shop     c         1.0.0    offline       0          -      -       -     0    0s       0     -
`
	code, stdout, stderr := runs(t.Context(), &cli{}, "instances", "--wide", "--server", s.URL())
	if diff := cmp.Diff(want, stdout); code != exitOK || stderr != "" || diff != "" {
		t.Errorf("exit %d, stderr %q (-want +got):\n%s", code, stderr, diff)
	}
	code, stdout, stderr = runs(t.Context(), &cli{}, "services", "--server", s.URL(), "-o", "json")
	var rows []serviceRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK {
		t.Fatalf("exit %d, stderr %q, %v: %s", code, stderr, err, stdout)
	}
	if diff := cmp.Diff([]serviceRow{{
		Service: "shop", Versions: []string{"1.0.0", "1.1.0"}, Online: 1, Unregistered: 1, Offline: 1, Endpoints: []string{"count", "get"},
	}}, rows); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for ago, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m", time.Hour: "1h0m", 23*time.Hour + 59*time.Minute: "23h59m", 50 * time.Hour: "2d2h",
	} {
		if got := age(time.Now().Add(-ago - time.Millisecond)); got != want {
			t.Errorf("%v ago: %q, want %q", ago, got, want)
		}
	}
}

func TestJetStreamIsMissed(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: loopbackHost, Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(waitTimeout) {
		t.Fatal("no server")
	}
	for _, command := range []string{"services", "routes", "config"} {
		code, stdout, stderr := runs(t.Context(), &cli{}, command, "--server", s.ClientURL(), "--timeout", "1s")
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, "JetStream is not ready") || !strings.Contains(stderr, "\nhint: that server needs JetStream: ") {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", command, code, stdout, stderr)
		}
		if text := strings.TrimPrefix(stderr, "skybus: "); strings.Contains(text, "kv: ") || strings.Contains(text, "bus: ") {
			t.Errorf("%s: names of packages in %q", command, stderr)
		}
	}
}

// Who only looks creates nothing on a server that skybus was never on.
func TestListsCreateNothing(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	for args, want := range map[string]int{
		"services": exitOK, "instances": exitOK, "routes": exitOK, "config": exitOK,
		"routes get x": exitFailed, "routes history x": exitFailed, "routes rm x": exitFailed,
		"config get x": exitFailed, "config history x": exitFailed, "config rm x": exitFailed,
	} {
		code, _, stderr := runs(t.Context(), &cli{}, append(strings.Fields(args), "--server", s.URL())...)
		if code != want || want == exitFailed && !strings.Contains(stderr, "there is no route") && !strings.Contains(stderr, "is not set") {
			t.Errorf("%s: exit %d, stderr %q", args, code, stderr)
		}
	}
	js, err := jetstream.New(s.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(t.Context()).Name() {
		t.Errorf("stream %s was created", name)
	}
}
