package mirror_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

func TestList(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	got, err := mirror.List(t.Context(), r.conn)
	if err != nil || len(got) != 0 {
		t.Fatalf("on a new server: %v %v", got, err)
	}
	if _, err := r.conn.JetStream().Stream(t.Context(), "KV_skybus_mirrors"); err == nil {
		t.Error("to list mirrors made their bucket")
	}
	r.open(t, mirror.Config{Name: "b", Lanes: 8, Key: "path:1"})
	r.open(t, mirror.Config{Name: "a"})
	got, err = mirror.List(t.Context(), r.conn)
	if diff := cmp.Diff([]mirror.Info{{Name: "a", Lanes: 64, Key: "path"}, {Name: "b", Lanes: 8, Key: "path:1"}}, got); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
}

func TestOpenTakesWhatThereIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	want := mirror.Info{Name: "a", Lanes: 8, Key: "path:2"}
	r.open(t, mirror.Config{Name: want.Name, Lanes: want.Lanes, Key: want.Key})
	if got := r.open(t, mirror.Config{Name: want.Name}).Info(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, cfg := range []mirror.Config{{Name: "a", Lanes: 64}, {Name: "a", Lanes: 8, Key: "path"}} {
		if _, err := mirror.Open(t.Context(), r.conn, cfg); bus.CodeOf(err) != bus.FailedPrecondition {
			t.Errorf("%d lanes by %q: %v", cfg.Lanes, cfg.Key, err)
		}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.First, Owner: "me"})
	looker, err := mirror.Open(t.Context(), r.conn, mirror.Config{Observe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = looker.Close() })
	if owner, err := looker.Sender(t.Context()); owner != "" || err != nil {
		t.Errorf("before anybody sends: %q %v", owner, err)
	}
	for _, c := range looker.Conditions() {
		if c.State != "" || c.Applied != 0 {
			t.Errorf("before anybody sends: %+v", c)
		}
	}
	r.backends[1].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	run(t, m)
	front := serve(t, m)
	for range 10 {
		do(t, http.MethodPut, front.URL+"/a", "x")
	}
	eventually(t, "conditions as they are", func() bool {
		got := looker.Conditions()
		return got[0].State == mirror.StateLive && got[0].Applied == 10 && got[0].Waiting == 0 &&
			got[1].State == mirror.StateDown && got[1].Applied == 0 && got[1].Read == 10 && got[1].Waiting == 10 && got[1].Bytes > 0 && got[1].Lag > 0
	})
	if owner, err := looker.Sender(t.Context()); owner != "me" || err != nil {
		t.Errorf("while one sends: %q %v", owner, err)
	}
}

func TestNameFor(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("very-long.", 9)
	for _, tt := range []struct {
		host string
		port int
		want string
	}{
		{"10.0.0.1", 80, "10-0-0-1-80"},
		{"a_b.example", 8080, "a_b-example-8080"},
		{"::1", 1, "--1-1"},
		{long + "a", 1, "very-long-very-long-very-long-very-long-very-long-very--"},
		{long + "b", 1, "very-long-very-long-very-long-very-long-very-long-very--"},
	} {
		got := mirror.NameFor(tt.host, tt.port)
		if !strings.HasPrefix(got, tt.want) || len(tt.want) < 50 && got != tt.want || (mirror.Backend{Name: got, URL: "http://a"}).Validate() != nil {
			t.Errorf("%s %d: %q, want %q", tt.host, tt.port, got, tt.want)
		}
	}
	if mirror.NameFor(long+"a", 1) == mirror.NameFor(long+"b", 1) {
		t.Error("two hosts have one name")
	}
}
