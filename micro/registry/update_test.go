package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

func setRegistered(to bool) func(*registry.Record) error {
	return func(r *registry.Record) error {
		r.Registered = to
		return nil
	}
}

// A change made before Run is announced with the first record, one made later is stored when Update returns.
func TestUpdate(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, _ := tables(t, conn)
	a := newAnnouncer(t, conn, record("shop", "a"), quickly())
	if err := a.Update(t.Context(), func(r *registry.Record) error {
		r.Attributes = map[string]json.RawMessage{"rack": json.RawMessage(`"r1"`)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(r.Services()) != 0 {
		t.Error("an update before Run is announced")
	}
	run(t, a)
	becomes(t, r, "shop", "a", registry.Online)
	if got := string(find(r, "shop", "a").Attributes["rack"]); got != `"r1"` {
		t.Errorf("attribute %s", got)
	}
	stored := func() registry.Record {
		t.Helper()
		e, err := records.Get(t.Context(), "default.dev.shop.a")
		if err != nil {
			t.Fatal(err)
		}
		return e.Value
	}
	for _, registered := range []bool{false, true, false} {
		if err := a.Update(t.Context(), setRegistered(registered)); err != nil {
			t.Fatal(err)
		}
		if stored().Registered != registered || a.Record().Registered != registered {
			t.Errorf("registered is not stored as %v", registered)
		}
	}
	becomes(t, r, "shop", "a", registry.Unregistered)
	if err := a.Update(t.Context(), func(r *registry.Record) error {
		r.Endpoints = append(r.Endpoints, registry.Endpoint{Name: "late", Streams: true})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if e := stored().Endpoints; len(e) != 1 || e[0].Name != "late" || !e[0].Streams {
		t.Errorf("endpoints %+v", e)
	}
}

// badChanges are changes that leave no valid record, by what the error says.
func badChanges() map[string]func(*registry.Record) {
	attribute := func(key, value string) func(*registry.Record) {
		return func(r *registry.Record) { r.Attributes = map[string]json.RawMessage{key: json.RawMessage(value)} }
	}
	metadata := func(key, value string) func(*registry.Record) {
		return func(r *registry.Record) { r.Metadata = map[string]string{key: value} }
	}
	many := func(n int, add func(r *registry.Record, name string)) func(*registry.Record) {
		return func(r *registry.Record) {
			r.Attributes, r.Metadata = map[string]json.RawMessage{}, map[string]string{}
			for i := range n {
				add(r, fmt.Sprintf("n%d", i))
			}
		}
	}
	return map[string]func(*registry.Record){
		"service":        func(r *registry.Record) { r.Service = "other" },
		"instance":       func(r *registry.Record) { r.Instance = "other" },
		"session":        func(r *registry.Record) { r.Session = "other" },
		"version":        func(r *registry.Record) { r.Version = "1" },
		"not one of A-Z": attribute("a.b", `1`),
		"attribute":      attribute("", `1`),
		"not JSON":       attribute("a", `{`),
		"4098 bytes":     attribute("a", `"`+strings.Repeat("x", 4096)+`"`),
		"65 attributes":  many(65, func(r *registry.Record, name string) { r.Attributes[name] = json.RawMessage(`1`) }),
		"65 metadata":    many(65, func(r *registry.Record, name string) { r.Metadata[name] = "" }),
		"129 bytes":      metadata(strings.Repeat("k", 129), "v"),
		"1025 bytes":     metadata("k", strings.Repeat("v", 1025)),
		"not UTF-8":      metadata("k", "\xff"),
		"1025 endpoints": many(1025, func(r *registry.Record, name string) {
			r.Endpoints = append(r.Endpoints, registry.Endpoint{Name: name})
		}),
		"endpoint \"twice\"": func(r *registry.Record) { r.Endpoints = []registry.Endpoint{{Name: "twice"}, {Name: "twice"}} },
		"schema": func(r *registry.Record) {
			r.Endpoints = []registry.Endpoint{{Name: "e", Request: json.RawMessage(`{`)}}
		},
		"at most 65536": func(r *registry.Record) { r.Description = strings.Repeat("x", registry.MaxRecord) },
	}
}

// Nothing is written by a change that changes nothing, fails or is not valid.
func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, _ := tables(t, conn)
	a := announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	before, err := records.Get(t.Context(), "default.dev.shop.a")
	if err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := a.Update(t.Context(), func(r *registry.Record) error {
		r.Registered = false
		return mine
	}); !errors.Is(err, mine) {
		t.Errorf("error %v", err)
	}
	if err := a.Update(t.Context(), setRegistered(true)); err != nil {
		t.Error(err)
	}
	for what, change := range badChanges() {
		err := a.Update(t.Context(), func(r *registry.Record) error {
			change(r)
			return nil
		})
		if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	after, err := records.Get(t.Context(), "default.dev.shop.a")
	if err != nil || after.Revision != before.Revision {
		t.Errorf("revision %d became %d: %v", before.Revision, after.Revision, err)
	}
	if got := a.Record(); got.Service != "shop" || len(got.Attributes)+len(got.Metadata)+len(got.Endpoints) != 0 {
		t.Errorf("the record is %+v", got)
	}
}

// What fits is written, and read by others.
func TestUpdateLargest(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	a := announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	if err := a.Update(t.Context(), func(r *registry.Record) error {
		for i := range registry.MaxEndpoints {
			r.Endpoints = append(r.Endpoints, registry.Endpoint{Name: fmt.Sprintf("endpoint%d", i)})
		}
		data, err := json.Marshal(r)
		r.Description = strings.Repeat("x", registry.MaxRecord-len(data)-len(`,"description":""`))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the record", func() bool { return len(find(r, "shop", "a").Endpoints) == registry.MaxEndpoints })
}

// Of many who count at the same time none loses, whatever happens to the record meanwhile, and a lost record comes back as
// it was last.
func TestUpdateConcurrent(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, _ := tables(t, conn)
	a := announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	count := func(r *registry.Record) error {
		n := 0
		if v, ok := r.Attributes["n"]; ok {
			if err := json.Unmarshal(v, &n); err != nil {
				return err
			}
		}
		r.Attributes = map[string]json.RawMessage{"n": json.RawMessage(fmt.Sprint(n + 1))}
		return nil
	}
	const callers, each = 8, 25
	done := make(chan struct{})
	var disturber, counters sync.WaitGroup
	disturber.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				if err := records.Delete(t.Context(), "default.dev.shop.a"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range callers {
		counters.Go(func() {
			for range each {
				if err := a.Update(t.Context(), count); err != nil {
					t.Error(err)
				}
			}
		})
	}
	counters.Wait()
	close(done)
	disturber.Wait()
	if err := a.Update(t.Context(), setRegistered(false)); err != nil {
		t.Error(err)
	}
	if err := records.Delete(t.Context(), "default.dev.shop.a"); err != nil {
		t.Error(err)
	}
	becomes(t, r, "shop", "a", registry.Unregistered)
	bustest.Eventually(t, "the last record", func() bool {
		i := find(r, "shop", "a")
		return i != nil && string(i.Attributes["n"]) == fmt.Sprint(callers*each) && !i.Registered
	})
}

// An update that cannot be written is none, also when JetStream is back.
func TestUpdateWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	a := announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.Update(ctx, setRegistered(false)); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if !a.Record().Registered {
		t.Error("the record has changed")
	}
	waits := make(chan error, 1)
	go func() {
		waits <- a.Update(t.Context(), func(r *registry.Record) error {
			r.Description = "later"
			return nil
		})
	}()
	s.Start(t)
	if err := <-waits; err != nil {
		t.Error(err)
	}
	bustest.Eventually(t, "the record", func() bool {
		i := find(r, "shop", "a")
		return i.Description == "later" && i.State == registry.Online
	})
}

// An update that was given up while it was written leaves the bucket as the announcer says, whether it was stored or not.
func TestUpdateGivenUp(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, _ := tables(t, conn)
	a := announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	failed, tries := 0, 0
	for ; failed < 20 && tries < 2000; tries++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+tries%20*25)*time.Microsecond)
		err := a.Update(ctx, setAttributes("n", fmt.Sprint(tries)))
		cancel()
		if err == nil {
			continue
		}
		failed++
		bustest.Eventually(t, "the record to be as the announcer says", func() bool {
			e, err := records.Get(t.Context(), "default.dev.shop.a")
			return err == nil && string(e.Value.Attributes["n"]) == string(a.Record().Attributes["n"])
		})
	}
	t.Logf("%d of %d updates were given up", failed, tries)
}
