package embed

import (
	"testing"
	"time"
)

func TestParseListen(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		host string
		port int
	}{
		"":               {"127.0.0.1", 4222},
		":5000":          {"127.0.0.1", 5000},
		"127.0.0.1:0":    {"127.0.0.1", -1},
		"127.0.0.1:-1":   {"127.0.0.1", -1},
		"0.0.0.0:4222":   {"0.0.0.0", 4222},
		"[::1]:4222":     {"::1", 4222},
		"localhost:4222": {"localhost", 4222},
	} {
		host, port, err := parseListen(in, defaultPort)
		if err != nil || host != want.host || port != want.port {
			t.Errorf("%q: %q, %d, %v, want %q, %d", in, host, port, err, want.host, want.port)
		}
	}
}

func TestSyncOptions(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		interval time.Duration
		always   bool
	}{
		"":       {0, false}, // the server's default
		"always": {0, true},
		"100ms":  {100 * time.Millisecond, false},
	} {
		o, err := Config{Dir: "x", Sync: in}.options()
		if err != nil || o.SyncInterval != want.interval || o.SyncAlways != want.always {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

// TestRouteReports has a member that is away told once a minute, not by some lines each second.
func TestRouteReports(t *testing.T) {
	t.Parallel()
	o, err := Config{Dir: "x", Cluster: "c"}.options()
	if err != nil || o.ReconnectErrorReports < 60 {
		t.Errorf("every %d attempts are told, %v, want a minute's or more", o.ReconnectErrorReports, err)
	}
}

func TestParseRoute(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a:1":              "nats://a:1",
		"a":                "nats://a:6222",
		"nats://a":         "nats://a:6222",
		"nats://[::1]:7":   "nats://[::1]:7",
		"nats-route://a:1": "nats-route://a:1",
		"nats://u:p@a:1":   "nats://u:p@a:1",
	} {
		u, err := parseRoute(in)
		if err != nil || u.String() != want {
			t.Errorf("%q: %v, %v, want %s", in, u, err, want)
		}
	}
}
