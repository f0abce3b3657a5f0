//go:build unix

package integration_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/micro/route"
)

// TestPlainNATSClient reaches the demo with nats.go alone, as any NATS client of any language would.
func TestPlainNATSClient(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	p := startUp(t, "--demo", "--memory")
	nc, err := nats.Connect(p.Ports["nats"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)

	reply, err := nc.Request("default.dev.svc.getwidgets.get", []byte(`{"input":"plain"}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Output string
		Trail  []string
	}
	if err := json.Unmarshal(reply.Data, &got); err != nil || got.Output != "Hello World" || len(got.Trail) != 1 {
		t.Errorf("the service answers %s (%v)", reply.Data, err)
	}
	if ct := reply.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("the answer's content type is %q", ct)
	}

	bad, err := nc.Request("default.dev.svc.getwidgets.get", []byte(`{"input":`), patience)
	if err != nil {
		t.Fatal(err)
	}
	if code := bad.Header.Get(natsmicro.ErrorCodeHeader); code != "400" || bad.Header.Get(natsmicro.ErrorHeader) == "" {
		t.Errorf("malformed JSON is answered with the headers %v, want code 400 and a text", bad.Header)
	}
}

// TestServiceDiscovery asks as ADR-32 says, with the types of nats.go/micro.
func TestServiceDiscovery(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	p := startUp(t, "--demo", "--memory")
	nc, err := nats.Connect(p.Ports["nats"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)

	pings := discover[natsmicro.Ping](t, nc, "$SRV.PING", 7)
	counts := map[string]int{}
	for _, ping := range pings {
		counts[ping.Name]++
		if ping.Type != natsmicro.PingResponseType || ping.Version != "1.0.0" && ping.Name != route.RouterService || ping.ID == "" {
			t.Errorf("ping is %+v", ping)
		}
	}
	if counts["log"] != 2 || counts["authorize"] != 2 || counts["getwidgets"] != 2 || counts[route.RouterService] != 1 {
		t.Errorf("services that answer PING: %v, want two of each, and a router", counts)
	}

	if _, err := nc.Request("default.dev.svc.getwidgets.get", []byte(`{"input":"plain"}`), patience); err != nil {
		t.Fatal(err)
	}
	requests := 0
	for _, info := range discover[natsmicro.Info](t, nc, "$SRV.INFO.getwidgets", 2) {
		ok := func(e natsmicro.EndpointInfo) bool {
			return e.Name == "get" && e.Subject == "default.dev.svc.getwidgets.get" && e.QueueGroup == "svc"
		}
		if info.Type != natsmicro.InfoResponseType || len(info.Endpoints) != 1 || !slices.ContainsFunc(info.Endpoints, ok) {
			t.Errorf("info is %+v", info)
		}
		if info.Metadata["skybus.namespace"] != "default.dev" {
			t.Errorf("metadata is %v", info.Metadata)
		}
		one := discover[natsmicro.Stats](t, nc, "$SRV.STATS.getwidgets."+info.ID, 1)[0]
		if one.Type != natsmicro.StatsResponseType || one.ID != info.ID || one.Started.IsZero() || len(one.Endpoints) != 1 {
			t.Errorf("stats are %+v", one)
			continue
		}
		requests += one.Endpoints[0].NumRequests
	}
	if requests != 2 { // the platform's own first one, and ours
		t.Errorf("stats count %d requests, want 2", requests)
	}
}

// discover collects the answers of all instances that are asked.
func discover[T any](t *testing.T, nc *nats.Conn, subject string, count int) []T {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		t.Fatal(err)
	}
	var answers []T
	for range count {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %d answers, want %d: %v", subject, len(answers), count, err)
		}
		var answer T
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			t.Fatalf("%s answers %s: %v", subject, msg.Data, err)
		}
		answers = append(answers, answer)
	}
	if msg, err := sub.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("%s has more than %d answers: %s", subject, count, msg.Data)
	}
	return answers
}
