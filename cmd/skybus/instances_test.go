package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// putInstances makes three instances of shop known: one that takes requests, one that wants none, and one that died.
func putInstances(t *testing.T, conn *bus.Conn) {
	t.Helper()
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
			Attributes: map[string]json.RawMessage{"price": []byte(`12.5`), "colors": []byte(`["red", "blue"]`)},
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
}

// TestInstancesOfEachState lists an instance that takes requests, one that wants none, and one that died.
func TestInstancesOfEachState(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	putInstances(t, connectTo(t, s))
	const want = `SERVICE  INSTANCE  VERSION  STATE         IN FLIGHT  UP     REGION  HOST  PID  LATENCY  SHED  ATTRIBUTES                        ENDPOINTS
shop     a         1.0.0    unregistered  0          1h30m  -       -     0    0s       0     -                                 get
shop     b         1.1.0    online        3          1d1h   north   h1    7    1.5ms    2     colors=["red","blue"] price=12.5  get count
shop     c         1.0.0    offline       0          -      -       -     0    0s       0     -                                 -
`
	code, stdout, stderr := runs(t.Context(), &cli{}, "instances", "--wide", "--server", s.URL())
	if diff := cmp.Diff(want, stdout); code != exitOK || stderr != "" || diff != "" {
		t.Errorf("exit %d, stderr %q (-want +got):\n%s", code, stderr, diff)
	}
	code, stdout, stderr = runs(t.Context(), &cli{}, "instances", "--region", "north", "--server", s.URL(), "-o", "yaml")
	for _, want := range []string{"- address: skybus://default.dev.shop/b\n", "  attributes:\n", "    price: 12.5\n"} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, stderr %q, no %q in\n%s", code, stderr, want, stdout)
		}
	}
	code, stdout, stderr = runs(t.Context(), &cli{}, "services", "--server", s.URL(), "-o", "json")
	var rows []serviceRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK {
		t.Fatalf("exit %d, stderr %q, %v: %s", code, stderr, err, stdout)
	}
	if diff := cmp.Diff([]serviceRow{{
		Service: "shop", Versions: []string{"1.0.0", "1.1.0"}, states: states{Online: 1, Unregistered: 1, Offline: 1}, Endpoints: []string{"count", "get"},
	}}, rows, cmp.AllowUnexported(serviceRow{})); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

// TestCriteria chooses by each flag, and by all of them.
func TestCriteria(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	putInstances(t, connectTo(t, s))
	for args, want := range map[string]string{
		"":                               "a b c",
		"--service shop":                 "a b c",
		"--service shop:1.0.0":           "a c",
		"--service other,shop:1.1.0":     "b",
		"--service other --service shop": "a b c",
		"--service other":                "",
		"--region north":                 "b",
		"--region north,south":           "b",
		"--host h1 --region south":       "",
		"--instance a,c,x":               "a c",
		"--registered":                   "b c",
		"--registered=false":             "a",
		"--registered=true --service shop:1.0.0 --instance a --instance c": "c",
	} {
		code, stdout, stderr := runs(t.Context(), &cli{}, append([]string{"instances", "-o", "json", "--server", s.URL()}, strings.Fields(args)...)...)
		var rows []instanceRow
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK {
			t.Fatalf("%s: exit %d, stderr %q, %v: %s", args, code, stderr, err, stdout)
		}
		var ids []string
		for _, r := range rows {
			ids = append(ids, r.Instance)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	for command, want := range map[string]string{
		"services --service shop:1.0.0": "SERVICE  VERSIONS  ONLINE  UNREGISTERED  OFFLINE  ENDPOINTS\nshop     1.0.0     0       1             1        get\n",
		"versions --registered":         "SERVICE  VERSION  ONLINE  UNREGISTERED  OFFLINE\nshop     1.0.0    0       0             1\nshop     1.1.0    1       0             0\n",
		"regions":                       "REGION  ONLINE  UNREGISTERED  OFFLINE  SERVICES\n-       0       1             1        shop\nnorth   1       0             0        shop\n",
		"hosts --region north":          "HOST  ONLINE  UNREGISTERED  OFFLINE  SERVICES\nh1    1       0             0        shop\n",
	} {
		code, stdout, stderr := runs(t.Context(), &cli{}, append(strings.Fields(command), "--server", s.URL())...)
		if diff := cmp.Diff(want, stdout); code != exitOK || stderr != "" || diff != "" {
			t.Errorf("%s: exit %d, stderr %q (-want +got):\n%s", command, code, stderr, diff)
		}
	}
	_, _, stderr := runs(t.Context(), &cli{}, "hosts", "--region", "south", "--registered=false", "--server", s.URL())
	if want := "there are no hosts in default.dev with --region south --registered=false\n"; stderr != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
}

// written is what is written, line by line.
type written chan string

// Write takes whole lines.
func (l written) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l <- strings.TrimSuffix(line, "\n")
	}
	return len(b), nil
}

// TestInstancesWatch begins before there is a registry, and tells of each change.
func TestInstancesWatch(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	conn := connectTo(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, done := make(written, 100), make(chan int, 1)
	go func() {
		done <- execute(ctx, &cli{}, []string{"instances", "--watch", "--service", "shop:1.0.0", "--server", s.URL()}, strings.NewReader(""), out, io.Discard)
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-out:
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		case <-time.After(waitTimeout):
			t.Fatalf("nothing was printed, want %q", want)
		}
	}
	putInstances(t, conn)
	seen := map[string]bool{}
	for range 2 {
		select {
		case line := <-out:
			seen[line] = true
		case <-time.After(waitTimeout):
			t.Fatalf("printed only %v", seen)
		}
	}
	if !seen["added    shop a 1.0.0 unregistered"] || !seen["added    shop c 1.0.0 offline"] {
		t.Errorf("printed %v", seen)
	}
	records, err := kv.Open[registry.Record](t.Context(), conn, registry.InstancesBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Delete(t.Context(), conn.Namespace().Key("shop", "a")); err != nil {
		t.Fatal(err)
	}
	expect("removed  shop a 1.0.0 unregistered")
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
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
		"services": exitOK, "versions": exitOK, "regions": exitOK, "hosts": exitOK, "instances": exitOK, "instances stop": exitFailed, "routes": exitOK, "config": exitOK,
		"routes get x": exitFailed, "routes history x": exitFailed, "routes rm x": exitFailed,
		"config get x": exitFailed, "config history x": exitFailed, "config rm x": exitFailed,
	} {
		code, _, stderr := runs(t.Context(), &cli{}, append(strings.Fields(args), "--server", s.URL())...)
		if code != want || want == exitFailed && !strings.Contains(stderr, "there is no ") && !strings.Contains(stderr, "is not set") {
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
