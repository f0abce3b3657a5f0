package mirror_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// Whose write was given up before its client's time was over is told that it is stored, and then what became of it.
func TestGivenUpWhileItsClientWaits(t *testing.T) {
	t.Parallel()
	for _, ack := range []mirror.Ack{mirror.First, mirror.Primary, mirror.Quorum, mirror.All} {
		t.Run(string(ack), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			cfg := mirror.Config{Ack: ack, MaxAge: 200 * time.Millisecond, AnswerTimeout: time.Minute}
			m := r.open(t, cfg)
			run(t, m)
			other, err := mirror.Open(t.Context(), connect(t, r.node), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
			r.backends[0].setRefuse(unavailable)
			for where, front := range map[string]string{"at the sender": serve(t, m).URL, "at another process": serve(t, other).URL} {
				begin := time.Now()
				got := do(t, "PUT", front+"/x", "x")
				if took := time.Since(begin); got.status != http.StatusAccepted || took > cfg.AnswerTimeout/2 {
					t.Fatalf("%s: %d after %v: %q", where, got.status, took, got.body)
				}
				eventually(t, where+": it is known to be given up", func() bool {
					s := statusOf(t, do(t, "GET", front+got.header.Get("Location"), ""))
					return s.State == "given-up" && s.Backends["a"].State == "given-up"
				})
			}
		})
	}
}
