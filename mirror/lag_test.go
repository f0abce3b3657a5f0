package mirror_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// A backend that is to be sent what the others have had for long serves no reads, also before anybody has looked how far it is.
func TestNewBackendServesNoReadsAtFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxLag: 20 * time.Millisecond, Health: mirror.Health{Every: -1}})
	stop := run(t, m)
	s := serve(t, m)
	if a := do(t, http.MethodPut, s.URL+"/x", "1"); a.status != http.StatusOK {
		t.Fatal(a)
	}
	eventually(t, "applied", func() bool { return m.Conditions()[0].Applied > 0 })
	stop() // nobody sends to the new one
	b := newBackend(t)
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "b", URL: b.URL, Active: true}, mirror.From(1)); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if a := do(t, http.MethodGet, s.URL+"/x", ""); a.status != http.StatusOK {
			t.Fatalf("read answered by a backend that has nothing: %d", a.status)
		}
	}
}
