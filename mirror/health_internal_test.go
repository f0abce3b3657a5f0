package mirror

import (
	"testing"
	"time"
)

// A check that succeeds lets the sender try at once.
func TestRecovered(t *testing.T) {
	t.Parallel()
	var h nodeHealth
	h.recovered() // of a process that does not send
	var a applier
	h.applier.Store(&a)
	for range breakAfter {
		a.breaker.report(false, false)
	}
	a.breaker.until = time.Now().Add(time.Hour)
	ready := a.ready.wait()
	h.recovered()
	select {
	case <-ready:
	default:
		t.Error("lanes that wait were not woken")
	}
	if wait, probe := a.breaker.allow(); wait != 0 || !probe {
		t.Errorf("wait %v, probe %t, want one request at once", wait, probe)
	}
}
