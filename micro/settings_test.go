package micro_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/config"
)

// table is settings that a test changes.
type table struct{ values sync.Map }

func (s *table) set(service, key, value string) {
	s.values.Store(service+" "+key, json.RawMessage(value))
}

// Setting is the value of the service, or else of all.
func (s *table) Setting(service, _, key string) (json.RawMessage, bool) {
	for _, name := range []string{service, "_"} {
		if v, ok := s.values.Load(name + " " + key); ok {
			return v.(json.RawMessage), true
		}
	}
	return nil, false
}

var _ micro.Settings = (*table)(nil)

// versions is how often each version answers n calls.
func versions(t testing.TB, c *micro.Client, n int, opts ...micro.CallOption) map[string]int {
	t.Helper()
	by := map[string]int{}
	for id, k := range spread(t, c, n, opts...) {
		version, _, _ := strings.Cut(id, "-")
		by[version] += k
	}
	return by
}

// The shares of versions follow the settings from one call to the next, with the queue group and with a policy.
func TestCanary(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for version, n := range map[string]int{"1.2.0": 2, "1.3.0": 2, "2.0.0": 1} {
		for i := range n {
			serveWho(t, s, micro.Config{Name: "who", Version: version, Instance: fmt.Sprintf("v%s-%d", version[:1]+version[2:3], i)})
		}
	}
	conn := connect(t, s)
	for name, policy := range map[string]balance.Policy{"queue group": nil, "round robin": balance.RoundRobin()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var live table
			var book logBook
			c := newClient(t, conn, micro.ClientConfig{Policy: policy, Settings: &live, Logger: book.logger()})
			sees(t, c, "who", 5)
			const n = 400
			check := func(weights string, least, most int) {
				t.Helper()
				live.set("who", config.ClientCanary, weights)
				if by := versions(t, c, n); by["v13"] < least || by["v13"] > most || by["v12"]+by["v13"] != n {
					t.Errorf("%s: answers %v of %d", weights, by, n)
				}
			}
			if by := versions(t, c, 100); len(by) != 3 {
				t.Errorf("without weights: %v", by)
			}
			check(`{"1.2.0":100,"1.3.0":0}`, 0, 0)
			check(`{"1.2.0":75,"1.3.0":25}`, n*15/100, n*35/100)
			check(`{"1.3.0":1}`, n, n)
			check(`{"1.2.0":50,"1.3.0":50,"9.9.9":1000}`, n*38/100, n*62/100) // who is not there has no share
			// The version of a key stays while its share grows.
			live.set("who", config.ClientCanary, `{"1.2.0":50,"1.3.0":50}`)
			for i := range 20 {
				key := micro.WithKey(fmt.Sprint(i))
				live.set("who", config.ClientCanary, `{"1.2.0":70,"1.3.0":30}`)
				first := versions(t, c, 5, key)
				live.set("who", config.ClientCanary, `{"1.2.0":30,"1.3.0":70}`)
				if second := versions(t, c, 5, key); len(first) != 1 || len(second) != 1 || first["v13"] > second["v13"] {
					t.Errorf("key %d went from %v to %v", i, first, second)
				}
			}
			if by := versions(t, c, 20, micro.ToVersion("2.0.0")); by["v20"] != 20 {
				t.Errorf("a call that asks for a version: %v", by)
			}
			for _, bad := range []string{`{"1.2":5}`, `{"1.2.0":-1}`, `[]`, `{"1.2.0":"5"}`, `{`, ``} {
				live.set("who", config.ClientCanary, bad)
				if by := versions(t, c, 100); len(by) != 3 {
					t.Errorf("bad weights %s: %v", bad, by)
				}
			}
			if told := strings.Count(book.String(), "setting is ignored"); told != 6 {
				t.Errorf("6 bad values were told of %d times", told)
			}
		})
	}
}

// When nobody of the chosen version is left, the others are asked.
func TestCanaryGone(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveWho(t, s, micro.Config{Name: "who", Version: "1.0.0", Instance: "old"})
	put(t, s.Connect(t), "skybus_liveness", "default.dev.who.dead", `{}`)
	put(t, s.Connect(t), "skybus_instances", "default.dev.who.dead", `{"version":"2.0.0","registered":true,"endpoints":[{"name":"are"}]}`)
	var live table
	live.set("_", config.ClientCanary, `{"2.0.0":1}`)
	for _, policy := range []balance.Policy{nil, balance.Random()} {
		c := newClient(t, connect(t, s), micro.ClientConfig{Settings: &live, Policy: policy})
		sees(t, c, "who", 2)
		start := time.Now()
		if by := spread(t, c, 5); by["old"] != 5 || time.Since(start) > 4*micro.DefaultPatience { // and not five times
			t.Errorf("answers %v after %v", by, time.Since(start))
		}
	}
}

// Times follow the settings, and a ctx with a deadline is its own.
func TestLiveTimeouts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var handled atomic.Int64
	serve(t, connect(t, s), micro.Config{Name: "slow", Drain: time.Millisecond}, endpoint("hang", func(ctx context.Context, _ hello) (string, error) {
		handled.Add(1)
		<-ctx.Done()
		return "", ctx.Err()
	}))
	var live table
	var book logBook
	c := newClient(t, connect(t, s), micro.ClientConfig{Settings: &live, Timeout: 2 * time.Second, AttemptTimeout: 3 * time.Second, Logger: book.logger()})
	sees(t, c, "slow", 1)
	took := func(ctx context.Context, opts ...micro.CallOption) time.Duration {
		t.Helper()
		start := time.Now()
		_, err := micro.Call[string](ctx, c, "slow.hang", hello{}, opts...)
		wantCode(t, err, bus.DeadlineExceeded)
		return time.Since(start)
	}
	live.set("_", config.ClientTimeoutTotal, `"1m"`)
	live.set("slow", config.ClientTimeoutTotal, `"200ms"`)
	if d := took(t.Context()); d < 100*time.Millisecond || d > 1900*time.Millisecond {
		t.Errorf("it took %v, want 200ms", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if d := took(ctx); d < 400*time.Millisecond {
		t.Errorf("it took %v, want the deadline of ctx", d)
	}
	handled.Store(0)
	live.set("slow", config.ClientTimeoutTotal, `"1500ms"`)
	live.set("slow", config.ClientTimeoutRetry, `"50ms"`)
	took(t.Context(), micro.Idempotent())
	if n := handled.Load(); n < 3 {
		t.Errorf("%d attempts of 50ms in 1.5s", n)
	}
	for _, bad := range []string{`200`, `"soon"`, `"-1s"`, `"0s"`, `null`} {
		live.set("slow", config.ClientTimeoutTotal, bad)
		if d := took(t.Context()); d < 1900*time.Millisecond {
			t.Errorf("%s: it took %v, want the client's own 2s", bad, d)
		}
	}
	if n := strings.Count(book.String(), "setting is ignored"); n != 5 {
		t.Errorf("5 bad values were told of %d times", n)
	}
}

// setConfig writes a value as `skybus config put` does.
func setConfig(t testing.TB, conn *bus.Conn, service, key, value string) {
	t.Helper()
	table, err := config.Table(t.Context(), conn, false)
	if err != nil {
		t.Fatal(err)
	}
	bucketKey, err := config.BucketKey(conn.Namespace(), config.Scope{Service: service}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Put(t.Context(), bucketKey, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

// A client that was told nothing of settings follows the configuration of its namespace, one with NoSettings does not. What
// cannot be used leaves the last that could.
func TestConfigurationIsLive(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for _, version := range []string{"1.0.0", "2.0.0"} {
		serveWho(t, s, micro.Config{Name: "who", Version: version, Instance: "v" + version[:1]})
	}
	conn := connect(t, s)
	serve(t, conn, micro.Config{Name: "slow", Drain: time.Millisecond}, endpoint("hang", func(ctx context.Context, _ hello) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}))
	var book logBook
	c := newClient(t, conn, micro.ClientConfig{Timeout: 30 * time.Second, Logger: book.logger()})
	deaf := newClient(t, conn, micro.ClientConfig{Timeout: 3 * time.Second, Settings: micro.NoSettings{}})
	sees(t, c, "who", 2)
	for _, weights := range []string{`{"1.0.0":1}`, `{"2.0.0":1}`, `{"1.0.0":1,"2.0.0":0}`} {
		want := "v" + weights[2:3]
		setConfig(t, conn, "who", config.ClientCanary, weights)
		bustest.Eventually(t, "the client to follow", func() bool { return spread(t, c, 10)[want] == 10 })
	}
	setConfig(t, conn, "who", config.ClientCanary, `{"1.0.0":-1}`)
	bustest.Eventually(t, "the bad value to be told of", func() bool {
		spread(t, c, 1)
		return strings.Contains(book.String(), "is not used")
	})
	if by := spread(t, c, 10); by["v1"] != 10 {
		t.Errorf("answers by %v after a bad value, want v1 as before", by)
	}
	if by := spread(t, deaf, 40); len(by) != 2 {
		t.Errorf("answers by %v for a client without settings", by)
	}

	setConfig(t, conn, "", config.ClientTimeoutTotal, "50ms")
	bustest.Eventually(t, "the time-out to hold", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(time.Second, cancel).Stop()
		_, err := micro.Call[string](ctx, c, "slow.hang", hello{})
		return bus.CodeOf(err) == bus.DeadlineExceeded
	})
	start := time.Now()
	_, err := micro.Call[string](t.Context(), deaf, "slow.hang", hello{})
	wantCode(t, err, bus.DeadlineExceeded)
	if took := time.Since(start); took < 2500*time.Millisecond {
		t.Errorf("a client without settings gave up after %v, want its own 3s", took)
	}
}

// The values of the configuration bucket are settings.
func TestSettingsOfBucket(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for _, version := range []string{"1.0.0", "2.0.0"} {
		serveWho(t, s, micro.Config{Name: "who", Version: version, Instance: "v" + version[:1]})
	}
	conn := connect(t, s)
	values, err := config.Open(t.Context(), conn, config.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := values.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newClient(t, conn, micro.ClientConfig{Settings: values})
	sees(t, c, "who", 2)
	for _, version := range []string{"1", "2", "1"} {
		put(t, s.Connect(t), "skybus_config", "default.dev.who._.client.canary", `{"`+version+`.0.0":1}`)
		bustest.Eventually(t, "the client to follow", func() bool {
			return spread(t, c, 10)["v"+version] == 10
		})
	}
}
