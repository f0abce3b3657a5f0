package micro_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func TestAttributes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	registered := new(atomic.Int64)
	svc := serve(t, connect(t, s), micro.Config{Name: "names", Hooks: micro.Hooks{Registered: func() { registered.Add(1) }}}, endpoints(
		endpoint("hello", greet),
		func(s *micro.Service) error { return s.SetAttribute(t.Context(), "early", 1) },
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "names", 1)
	see := func(key, want string) {
		t.Helper()
		bustest.Eventually(t, "attribute "+key+" to be "+want, func() bool {
			return string(c.Registry().Service("names").Instance(svc.id).Attributes[key]) == want
		})
		got, ok := svc.Attribute(key)
		if string(got) != want || ok != (want != "") {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	see("early", "1")
	set := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	set(svc.SetAttribute(t.Context(), "zone", hello{Name: "a"}))
	see("zone", `{"name":"a"}`)
	if err := micro.Handle(svc.Service, "late", greet); err != nil { // one change of the record does not undo another
		t.Fatal(err)
	}
	bustest.Eventually(t, "the endpoint", func() bool { return hasEndpoint(c, "names", "late") })
	see("zone", `{"name":"a"}`)
	wantCode(t, svc.CompareAndSetAttribute(t.Context(), "zone", hello{Name: "b"}, 5), bus.Aborted, `"zone"`)
	wantCode(t, svc.CompareAndSetAttribute(t.Context(), "zone", nil, 5), bus.Aborted)
	wantCode(t, svc.CompareAndSetAttribute(t.Context(), "none", 5, 5), bus.Aborted)
	set(svc.CompareAndSetAttribute(t.Context(), "zone", map[string]any{"name": "a"}, json.RawMessage(`[ 1 ]`)))
	see("zone", `[1]`)
	set(svc.CompareAndSetAttribute(t.Context(), "zone", []int{1}, nil))
	see("zone", "")
	set(svc.CompareAndSetAttribute(t.Context(), "zone", nil, "x"))
	set(svc.DeleteAttribute(t.Context(), "zone"))
	set(svc.DeleteAttribute(t.Context(), "zone"))
	see("zone", "")
	for _, key := range badNames() {
		wantCode(t, svc.SetAttribute(t.Context(), key, 1), bus.InvalidArgument, "attribute")
		wantCode(t, svc.DeleteAttribute(t.Context(), key), bus.InvalidArgument, "attribute")
	}
	wantCode(t, svc.SetAttribute(t.Context(), "f", func() {}), bus.InvalidArgument, `"f"`)
	wantCode(t, svc.SetAttribute(t.Context(), "f", strings.Repeat("x", micro.MaxAttribute)), bus.InvalidArgument, "4098 bytes")
	if n := registered.Load(); n != 1 {
		t.Errorf("the hook Registered was called %d times", n)
	}
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
	wantCode(t, svc.SetAttribute(t.Context(), "zone", 1), bus.FailedPrecondition, "has stopped")
}

func TestAttributesBound(t *testing.T) {
	t.Parallel()
	svc, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "names"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range micro.MaxAttributes {
		if err := svc.SetAttribute(t.Context(), fmt.Sprintf("k%d", i), i); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, svc.SetAttribute(t.Context(), "more", 1), bus.ResourceExhausted, "65 attributes")
	for i := range 4 {
		err = svc.SetAttribute(t.Context(), fmt.Sprintf("k%d", i), strings.Repeat("x", micro.MaxAttribute-2))
	}
	wantCode(t, err, bus.ResourceExhausted, "bytes")
}

// Concurrent compare-and-set of one key: none is lost.
func TestAttributesConcurrent(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "names"}, endpoint("hello", greet))
	if err := svc.SetAttribute(t.Context(), "n", 0); err != nil {
		t.Fatal(err)
	}
	const writers, times = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < times; {
				raw, _ := svc.Attribute("n")
				var n int
				if err := json.Unmarshal(raw, &n); err != nil {
					t.Error(err)
					return
				}
				switch err := svc.CompareAndSetAttribute(t.Context(), "n", n, n+1); bus.CodeOf(err) {
				case "":
					done++
				case bus.Aborted:
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, _ := svc.Attribute("n"); string(got) != fmt.Sprint(writers*times) {
		t.Errorf("%s, want %d", got, writers*times)
	}
}

// What cannot be written is not there.
func TestAttributesWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "names"}, endpoint("hello", greet))
	s.Stop()
	ctx, cancel := contextFor(t, 100*time.Millisecond)
	defer cancel()
	wantCode(t, svc.SetAttribute(ctx, "zone", 1), bus.Unavailable, "zone")
	if v, ok := svc.Attribute("zone"); ok {
		t.Errorf("it is %s", v)
	}
	s.Start(t)
	if err := svc.SetAttribute(t.Context(), "zone", 2); err != nil {
		t.Error(err)
	}
}
