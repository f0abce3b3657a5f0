package bus_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

func TestCheckHeader(t *testing.T) {
	t.Parallel()
	many := make([]string, bus.MaxHeaders+1)
	for _, tt := range []struct {
		name   string
		header nats.Header
		want   string // in the error; empty means it is taken
	}{
		{"none", nil, ""},
		{"plain", nats.Header{"Tenant": {"a", "b"}, "x-trace.id_2": {""}}, ""},
		{"no name", nats.Header{"": {"a"}}, "want a name"},
		{"long name", nats.Header{strings.Repeat("n", 65): {"a"}}, "want a name"},
		{"name with a colon", nats.Header{"a:b": {"a"}}, "want a name"},
		{"name of another line", nats.Header{"a\r\nNats-Msg-Id": {"a"}}, "want a name"},
		{"the envelope's", nats.Header{"skybus-from": {"a"}}, "reserved"},
		{"the server's", nats.Header{"Nats-Msg-Id": {"a"}}, "reserved"},
		{"content type", nats.Header{"CONTENT-TYPE": {"a"}}, "reserved"},
		{"value with a line break", nats.Header{"Tenant": {"a\nb: c"}}, "line break"},
		{"too many", nats.Header{"Tenant": many}, "65 values"},
		{"too large", nats.Header{"Tenant": {strings.Repeat("v", bus.MaxHeaderBytes)}}, "want at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := bus.CheckHeader(tt.header)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestUserHeader(t *testing.T) {
	t.Parallel()
	h := bus.Envelope{ContentType: "a/b", RequestID: "1", Trace: true}.Header()
	if got := bus.UserHeader(h); got != nil {
		t.Errorf("of an envelope alone: %v", got)
	}
	h["Tenant"] = []string{"a", "b"}
	if diff := cmp.Diff(nats.Header{"Tenant": {"a", "b"}}, bus.UserHeader(h)); diff != "" {
		t.Error(diff)
	}
}
