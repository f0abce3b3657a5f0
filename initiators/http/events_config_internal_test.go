package http

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

func TestEventsConfig(t *testing.T) {
	t.Parallel()
	second := route.Duration(time.Second)
	for name, tt := range map[string]struct {
		events Events
		field  string // empty where it is good
	}{
		"subject":         {Events{Subject: "default.dev.pub.a"}, ""},
		"all":             {Events{Subject: "default.dev.pub.*.{path.a}.>", Stream: "S", Start: "all", Name: "header.X-A", Heartbeat: second, Retry: second, MaxDuration: second, Buffer: 1, MaxSubscribers: 1}, ""},
		"call":            {Events{Call: "app.watch"}, ""},
		"nothing":         {Events{}, "events.subject"},
		"stream alone":    {Events{Stream: "S"}, "events.subject"},
		"call and more":   {Events{Call: "app.watch", Subject: "a"}, "events"},
		"bad call":        {Events{Call: "app"}, "events.call"},
		"bad subject":     {Events{Subject: "a..b"}, "events.subject"},
		"NATS's":          {Events{Subject: "$JS.>"}, "events.subject"},
		"bad stream":      {Events{Subject: "a", Stream: "a.b"}, "events.stream"},
		"start":           {Events{Subject: "a", Start: "all"}, "events.start"},
		"bad start":       {Events{Subject: "a", Stream: "S", Start: "old"}, "events.start"},
		"bad name":        {Events{Subject: "a", Name: "last"}, "events.name"},
		"bad header":      {Events{Subject: "a", Name: "header.A B"}, "events.name"},
		"heartbeat":       {Events{Subject: "a", Heartbeat: second / 2}, "events.heartbeat"},
		"retry":           {Events{Subject: "a", Retry: -1}, "events.retry"},
		"max_duration":    {Events{Subject: "a", MaxDuration: 200 * 3600 * second}, "events.max_duration"},
		"buffer":          {Events{Subject: "a", Buffer: -1}, "events.buffer"},
		"large buffer":    {Events{Subject: "a", Buffer: 1 << 17}, "events.buffer"},
		"max_subscribers": {Events{Subject: "a", MaxSubscribers: -1}, "events.max_subscribers"},
	} {
		err := tt.events.Validate()
		if tt.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if e := bus.AsError(err); e == nil || e.Code != bus.InvalidArgument || e.Details["field"] != tt.field {
			t.Errorf("%s: %v, want the field %s", name, err, tt.field)
		}
	}
}

// What skybus or NATS says to itself no entry gives away, whatever else it is allowed.
func TestEventsSubjectsAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wide := []string{"default.dev.pub.", "orders.", "default.", "other.prod."}
	for _, tt := range []struct {
		subject  string
		prefixes []string
		ok       bool
	}{
		{"default.dev.pub.>", nil, true},
		{"default.dev.pub.a.{path.id}", nil, true},
		{"default.dev.ev.>", nil, true},
		{"default.dev.ev.instance.{path.s}.>", nil, true},
		{"default.dev.*", nil, false},
		{"default.dev.{path.a}", nil, false},
		{"default.dev.pub", nil, false},
		{"default.dev.public.>", nil, false},
		{"default.prod.pub.>", nil, false},
		{"orders.>", nil, false},
		{">", nil, false},
		{"*.dev.pub.>", nil, false},
		{"_INBOX.>", nil, false},
		{"skybus.>", nil, false},
		{"orders.>", wide, true},
		{"default.>", wide, false},
		{"default.*.svc.>", wide, false},
		{"default.dev.svc.app.get", wide, false},
		{"default.*.pub.>", wide, true},
		{"default.{path.a}.pub.>", wide, true},
		{"other.prod.svc.app.get", wide, false},
	} {
		src, err := Events{Subject: tt.subject}.compile()
		if err != nil {
			t.Errorf("%s: %v", tt.subject, err)
			continue
		}
		if err := src.checkSubject(r.conn, tt.prefixes); (err == nil) != tt.ok {
			t.Errorf("%s with %q: %v", tt.subject, tt.prefixes, err)
		} else if e := bus.AsError(err); err != nil && (e.Code != bus.PermissionDenied || e.Details["field"] != "events.subject") {
			t.Errorf("%s: %+v", tt.subject, e)
		}
	}
	// What a wide subject of other namespaces takes in is left out as it comes.
	src, err := Events{Subject: "orders.>"}.compile()
	if err != nil {
		t.Fatal(err)
	}
	h := r.hub(t, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := h.serve(w, req, eventRequest{entry: "orders", src: src}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(h.close)
	l := subscribe(t, srv.URL)
	r.publish(t, "orders.prod.svc.app.get", "a secret")
	r.publish(t, "orders.prod.inst.app.i.get", "a secret")
	r.publish(t, "orders.prod.new", "an event")
	if got := l.next(t).Data; got != "an event" {
		t.Errorf("%q came through", got)
	}
}
