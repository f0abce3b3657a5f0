package mirror

import (
	"testing"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// What any of several Connection lines names is for the next hop.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	got := endToEnd(leanhttp.Header{{Name: "Connection", Value: "keep-alive"}, {Name: "connection", Value: "X-Hop"}, {Name: "X-Hop", Value: "1"}, {Name: "X-End", Value: "2"}})
	if len(got) != 1 || got[0].Name != "X-End" {
		t.Errorf("%v, want X-End alone", got)
	}
}
