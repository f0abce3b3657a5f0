//go:build unix

package whole_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro"
)

// A probe is a call that is made to find out who gets it. Each instance records those that reach it.
const (
	probeEndpoint = "probe"
	probeEvery    = 20 * time.Millisecond
	probeTimeout  = 5 * time.Second // longer than a busy machine takes
)

type probe struct {
	ID string `json:"id"`
}

// handleProbe adds the endpoint to an instance.
func (c child) handleProbe(svc *micro.Service) error {
	f, err := os.OpenFile(probeFile(c.Dir, c.Name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return micro.Handle(svc, probeEndpoint, func(_ context.Context, p probe) (probe, error) {
		_, err := f.WriteString(p.ID + "\n") // one write, so that no lines are mixed
		return p, err
	})
}

func probeFile(dir, instance string) string { return filepath.Join(dir, instance+".probes") }

// probes are those that must not reach an instance, since it was frozen for too long to be in rotation.
type probes struct {
	made int
	all  map[string][]string // by instance
}

// around calls a service until a time, while one of its instances is frozen and must be out of rotation. Each call has one attempt.
func (r *rig) around(frozen *unit, until time.Time) {
	r.t.Helper()
	if r.probes.all == nil {
		r.probes.all = map[string][]string{}
	}
	failed := make(chan error, 1000)
	made := 0
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for time.Now().Before(until) && made < cap(failed) {
		<-tick.C
		r.probes.made++
		made++
		id := fmt.Sprintf("probe-%d", r.probes.made)
		r.probes.all[frozen.name] = append(r.probes.all[frozen.name], id)
		body := []byte(toJSON(r.t, probe{id}))
		go func() { // ends at its time-out, and is waited for below
			ctx, cancel := context.WithTimeout(r.t.Context(), probeTimeout)
			defer cancel()
			_, err := r.client.Do(ctx, micro.Request{Service: frozen.child.Role, Endpoint: probeEndpoint, Body: body, Once: true})
			failed <- err
		}()
	}
	for range made {
		if err := <-failed; err != nil {
			r.t.Errorf("%s is frozen and must be out of rotation: a call of its service: %v", frozen.name, err)
		}
	}
	r.t.Logf("%s was frozen, and %d calls of its service went to others", frozen.name, made)
}

// checkProbes looks whether a frozen instance was called when it should have been out of rotation. The instances have ended.
func (r *rig) checkProbes() {
	r.t.Helper()
	for instance, forbidden := range r.probes.all {
		data, err := os.ReadFile(probeFile(r.sys.dir, instance))
		if err != nil {
			r.t.Fatal(err)
		}
		got := map[string]bool{}
		for id := range strings.FieldsSeq(string(data)) {
			got[id] = true
		}
		reached := 0
		for _, id := range forbidden {
			if got[id] {
				reached++
			}
		}
		if reached > 0 {
			r.t.Errorf("%s was sent %d of %d calls more than %v after it was frozen", instance, reached, len(forbidden), serviceTTL+time.Second)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
