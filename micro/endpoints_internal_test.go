package micro

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// What an endpoint was given before the server refused another of its subjects ends with it, and no goroutine waits for more.
func TestRefusedEndpointsEnd(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "x", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"*.*.svc.shop.>"}},
		}}}
		o.NoAuthUser = "u"
	}))
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	hello := func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }
	for name, listen := range map[string]func(*Service, *run) error{
		"all":  func(s *Service, r *run) error { return s.listenAll(t.Context(), r) },
		"late": func(s *Service, r *run) error { return s.listenLate(r, true, s.sortedEndpoints()) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewService(conn, Config{Name: "shop"})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"a", "b"} {
				if err := Handle(s, name, hello); err != nil {
					t.Fatal(err)
				}
			}
			var all []*handlers
			busy := func() *handlers { // as of an endpoint that had a request, and handles another
				h := newHandlers(t.Context())
				done := make(chan struct{})
				h.start(func() { close(done) })
				<-done
				h.start(func() { <-h.base().Done() })
				all = append(all, h)
				return h
			}
			r := &run{fresh: busy, verbs: newHandlers(t.Context())}
			if name == "all" {
				r.verbs = busy()
			}
			if err := listen(s, r); bus.CodeOf(err) != bus.PermissionDenied {
				t.Fatalf("%v, want %s", err, bus.PermissionDenied)
			}
			if len(all) < 2 || slices.ContainsFunc(all, func(h *handlers) bool { return h.waiting.Load() != 0 || h.count.Load() != 0 }) {
				t.Errorf("of %d handlers some run on", len(all))
			}
		})
	}
}
