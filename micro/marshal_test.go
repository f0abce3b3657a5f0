package micro_test

import (
	"context"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// explosive is a response that panics when it is encoded.
type explosive struct{ Text string }

func (e explosive) MarshalJSON() ([]byte, error) {
	if e.Text == "boom" {
		panic(e.Text)
	}
	return []byte(`{"text":"calm"}`), nil
}

// A response that panics as it is encoded is as a handler that panics: the process goes on.
func TestResponsePanics(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	i := serve(t, connect(t, srv), micro.Config{Name: "s"}, endpoint("do", func(_ context.Context, req hello) (explosive, error) {
		return explosive{req.Name}, nil
	}))
	nc := srv.Connect(t)
	reply := request(t, nc, "default.dev.svc.s.do", nil, `{"name":"boom"}`)
	wantError(t, reply, bus.Internal, 500, "panicked")
	if reply = request(t, nc, "default.dev.svc.s.do", nil, `{"name":"x"}`); string(reply.Data) != `{"text":"calm"}` {
		t.Errorf("%s %v", reply.Data, reply.Header)
	}
	if st := i.Stats().Endpoints[0]; st.Errors != 1 || st.Panics != 1 {
		t.Errorf("%d errors, %d panics: want 1 of each", st.Errors, st.Panics)
	}
}
