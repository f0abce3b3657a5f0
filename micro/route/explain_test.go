package route_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	for _, v := range []string{"1.0.0", "2.0.0"} {
		serve(t, h.conn, micro.Config{Name: "app", Version: v, Instance: "v" + v[:1]}, endpoints(
			says("get", `{}`),
			func(s *micro.Service) error {
				return micro.HandleAmend(s, "add", func(context.Context, *empty, *empty) error { return nil }, micro.Idempotent())
			}))
	}
	bustest.Eventually(t, "both versions", func() bool { return h.online("app") == 2 })
	routes := map[string]route.Route{
		"main": {Steps: []route.Step{
			step("app.get", version("2.0.0"), within(time.Second)), sub("inner", retry, optional), step("app.add", async), step("nobody.get"), sub("main"),
			sub("gone"), sub("gone", async), step("app.other"),
		}},
		"inner": {Steps: []route.Step{step("app.add", within(time.Minute))}},
	}
	x := route.Explainer{Namespace: h.conn.Namespace(), Registry: h.client.Registry(), Route: func(name string) (route.Stored, bool) {
		r, ok := routes[name]
		return route.Stored{Name: name, Route: r, Revision: 7}, ok
	}}
	e := x.Explain("main", route.Request{Body: []byte(`{"a":1}`)}, 5*time.Second)
	if e.Problem != "" || e.Revision != 7 || e.Request != "7 bytes of JSON, an object of one field" {
		t.Errorf("explanation %+v", e)
	}
	var got []string
	for _, s := range e.Steps {
		got = append(got, fmt.Sprintf("%s %s %s %v %v others %d retry %v amends %v", s.Step, s.Target, s.Subject, s.Timeout, s.Instances, len(s.Others), s.Retry, s.Amends))
	}
	want := []string{
		"1 app.get default.dev.ver.app.2_0_0.get 1s [v2] others 1 retry false amends false",
		"2 route inner  5s [] others 0 retry true amends false",
		"2.1 app.add default.dev.svc.app.add 5s [v1 v2] others 0 retry true amends true",
		"3 app.add skybus.async.default.dev.app.add 5s [v1 v2] others 0 retry false amends true",
		"4 nobody.get default.dev.svc.nobody.get 5s [] others 0 retry false amends false",
		"5 route main  5s [] others 0 retry false amends false",
		"6 route gone  5s [] others 0 retry false amends false",
		"7 route gone skybus.async.default.dev.route.gone 5s [] others 0 retry false amends false",
		"8 app.other default.dev.svc.app.other 5s [] others 2 retry false amends false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	problems := map[string]string{
		"4": "nobody in the registry", "5": "main -> main", "6": `no route "gone"`, "7": `no route "gone"`, "8": "nobody in the registry",
	}
	for _, s := range e.Steps {
		if problem := problems[s.Step]; (s.Problem != "") != (problem != "") || !strings.Contains(s.Problem, problem) {
			t.Errorf("step %s has the problem %q, want %q", s.Step, s.Problem, problem)
		}
	}
}

func TestExplainRequest(t *testing.T) {
	t.Parallel()
	x := route.Explainer{Route: func(string) (route.Stored, bool) { return route.Stored{}, false }}
	if e := x.Explain("unknown", route.Request{}, time.Second); !strings.Contains(e.Problem, `"unknown"`) || e.Request != "empty" {
		t.Errorf("an unknown route: %+v", e)
	}
	for body, part := range map[string]string{`[1,2]`: "a list of 2", `3`: "a value", `null`: "null", `{"a"`: "not JSON"} {
		if e := x.Explain("unknown", route.Request{Body: []byte(body)}, time.Second); !strings.Contains(e.Request, part) {
			t.Errorf("%s is %q, want %q", body, e.Request, part)
		}
	}
	if e := x.Explain("unknown", route.Request{ContentType: (bus.MessagePack{}).ContentType(), Body: []byte{0x80}}, time.Second); !strings.Contains(e.Request, "msgpack") {
		t.Errorf("MessagePack is %q", e.Request)
	}
}
