package micro_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// discover asks a discovery subject and decodes the answer into ADR-32's type, strictly.
func discover[T any](t *testing.T, nc *nats.Conn, subject string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(request(t, nc, subject, nil, "").Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return v
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s, func(cfg *bus.Config) { cfg.Namespace = "shop.prod" })
	begin := time.Now()
	svc := serve(t, conn, micro.Config{
		Name: "greeter", Version: "1.2.3-rc.1+b7", Description: "says hello", Region: "eu", Host: "h1", Metadata: map[string]string{"team": "x"},
	}, endpoints(
		endpoint("hello", greet),
		endpoint("fail", func(context.Context, hello) (greeting, error) {
			return greeting{}, bus.Errorf(bus.NotFound, "not here")
		}, micro.OneWay()),
	))
	nc := s.Connect(t)
	for range 3 {
		request(t, nc, "shop.prod.svc.greeter.hello", nil, `{}`)
	}
	request(t, nc, "shop.prod.ver.greeter.1_2_3-rc_1=b7.hello", nil, `{}`)
	request(t, nc, "shop.prod.svc.greeter.fail", nil, `{}`)
	request(t, nc, "shop.prod.inst.greeter."+svc.id+".fail", nil, `[]`)
	identity := natsmicro.ServiceIdentity{Name: "greeter", ID: svc.id, Version: "1.2.3-rc.1+b7", Metadata: map[string]string{
		"team": "x", "skybus.namespace": "shop.prod", "skybus.region": "eu", "skybus.host": "h1",
	}}
	const failSubject, okSubject = "shop.prod.svc.greeter.fail", "shop.prod.svc.greeter.hello"
	for _, suffix := range []string{"", ".greeter", ".greeter." + svc.id} {
		ping := discover[natsmicro.Ping](t, nc, "$SRV.PING"+suffix)
		if diff := gocmp.Diff(natsmicro.Ping{ServiceIdentity: identity, Type: natsmicro.PingResponseType}, ping); diff != "" {
			t.Errorf("PING%s (-want +got)\n%s", suffix, diff)
		}
		info := discover[natsmicro.Info](t, nc, "$SRV.INFO"+suffix)
		wantInfo := natsmicro.Info{ServiceIdentity: identity, Type: natsmicro.InfoResponseType, Description: "says hello", Endpoints: []natsmicro.EndpointInfo{
			{Name: "fail", Subject: failSubject, QueueGroup: "svc"},
			{Name: "hello", Subject: okSubject, QueueGroup: "svc"},
		}}
		if diff := gocmp.Diff(wantInfo, info); diff != "" {
			t.Errorf("INFO%s (-want +got)\n%s", suffix, diff)
		}
		stats := discover[natsmicro.Stats](t, nc, "$SRV.STATS"+suffix)
		checkStats(t, stats, begin)
		want := natsmicro.Stats{ServiceIdentity: identity, Type: natsmicro.StatsResponseType, Started: stats.Started, Endpoints: []*natsmicro.EndpointStats{
			{Name: "fail", Subject: failSubject, QueueGroup: "svc", NumRequests: 2, NumErrors: 2},
			{Name: "hello", Subject: okSubject, QueueGroup: "svc", NumRequests: 4},
		}}
		times := gocmp.FilterPath(func(p gocmp.Path) bool {
			switch p.Last().String() {
			case ".ProcessingTime", ".AverageProcessingTime", ".Data", ".LastError":
				return true
			}
			return false
		}, gocmp.Ignore())
		if diff := gocmp.Diff(want, stats, times); diff != "" {
			t.Errorf("STATS%s (-want +got)\n%s", suffix, diff)
		}
	}
	for _, other := range []string{"$SRV.PING.other", "$SRV.INFO.greeter.other", "$SRV.STATS.greete"} {
		if reply, err := nc.Request(other, nil, patience); err == nil {
			t.Errorf("%s is answered: %s", other, reply.Data)
		}
	}
}

func checkStats(t *testing.T, stats natsmicro.Stats, begin time.Time) {
	t.Helper()
	if stats.Started.Before(begin.Add(-time.Second)) || stats.Started.After(time.Now()) || stats.Started.Location() != time.UTC {
		t.Errorf("started at %v, now is %v", stats.Started, time.Now())
	}
	for _, ep := range stats.Endpoints {
		if ep.ProcessingTime <= 0 || ep.AverageProcessingTime != ep.ProcessingTime/time.Duration(ep.NumRequests) {
			t.Errorf("%s: %v in all, %v each", ep.Name, ep.ProcessingTime, ep.AverageProcessingTime)
		}
		var data micro.EndpointStats
		if err := json.Unmarshal(ep.Data, &data); err != nil || data.Requests != uint64(ep.NumRequests) || data.Limit != micro.DefaultConcurrency {
			t.Errorf("%s: data %s: %v", ep.Name, ep.Data, err)
		}
		if hasError := ep.LastError != ""; hasError != (ep.Name == "fail") {
			t.Errorf("%s: last error %q", ep.Name, ep.LastError)
		}
	}
}

// What we answer has the keys that a service made by nats.go's own package answers with, and nothing else.
func TestDiscoveryKeys(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	theirs, err := natsmicro.AddService(nc, natsmicro.Config{
		Name: "theirs", Version: "1.0.0", Description: "x", Metadata: map[string]string{"a": "b"},
		StatsHandler: func(*natsmicro.Endpoint) any { return map[string]string{} },
		Endpoint: &natsmicro.EndpointConfig{
			Subject: "theirs", Metadata: map[string]string{"a": "b"},
			Handler: natsmicro.HandlerFunc(func(r natsmicro.Request) { _ = r.Error("404", "not here", nil) }),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, connect(t, s), micro.Config{Name: "ours", Version: "1.0.0", Description: "x"}, endpoint("fail",
		func(context.Context, hello) (greeting, error) {
			return greeting{}, bus.Errorf(bus.NotFound, "not here")
		}))
	their := request(t, nc, "theirs", nil, "")
	our := request(t, nc, "default.dev.svc.ours.fail", nil, "")
	for _, header := range []string{"Nats-Service-Error", "Nats-Service-Error-Code"} {
		if want, got := their.Header.Get(header), our.Header.Get(header); got != want {
			t.Errorf("header %s is %q, theirs is %q", header, got, want)
		}
	}
	bustest.Eventually(t, "their count", func() bool { return theirs.Stats().Endpoints[0].NumRequests == 1 })
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		want := keys(t, request(t, nc, "$SRV."+verb+".theirs", nil, "").Data)
		got := keys(t, request(t, nc, "$SRV."+verb+".ours", nil, "").Data)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-theirs +ours)\n%s", verb, diff)
		}
	}
	// Both are found by one question, as a listing asks it.
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.PING", inbox, nil); err != nil {
		t.Fatal(err)
	}
	var names []string
	for range 2 {
		m, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var ping natsmicro.Ping
		if err := json.Unmarshal(m.Data, &ping); err != nil {
			t.Fatal(err)
		}
		names = append(names, ping.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"ours", "theirs"}) {
		t.Errorf("found %v", names)
	}
}

// keys lists the keys of a JSON object with the kind of their values, what is in metadata and data aside.
func keys(t *testing.T, data []byte) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var found []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				found = append(found, path+"."+k)
				if k != "metadata" && k != "data" {
					walk(path+"."+k, e)
				}
			}
		case []any:
			for _, e := range v {
				walk(path+"[]", e)
			}
		default:
			found = append(found, fmt.Sprintf("%s is a %T", path, v))
		}
	}
	walk("", v)
	slices.SortFunc(found, cmp.Compare)
	return slices.Compact(found)
}

func TestControl(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	nc := s.Connect(t)
	ctl := "default.dev.ctl.greeter." + svc.id + "."
	var pong struct {
		Address string
		Started time.Time
		micro.Stats
	}
	if err := json.Unmarshal(request(t, nc, ctl+"ping", nil, "").Data, &pong); err != nil {
		t.Fatal(err)
	}
	if pong.Address != svc.Address().String() || pong.Started.IsZero() || len(pong.Endpoints) != 1 {
		t.Errorf("%+v", pong)
	}
	wantError(t, request(t, nc, ctl+"dance", nil, ""), bus.Unimplemented, 501, `"dance"`)
	if n := total(svc.Stats().Dropped); n != 0 {
		t.Errorf("dropped %v", svc.Stats().Dropped)
	}
}
