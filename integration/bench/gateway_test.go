package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestSlowloris counts the connections that a server closes, and that they are opened again.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ReadHeaderTimeout = 50 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	act, stop, err := newSlowloris(order{URL: server.URL, Delay: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	do := func(what string) []int64 {
		ans, err := act(t.Context(), order{Variant: what, Count: 5})
		if err != nil {
			t.Fatal(err)
		}
		return ans.Counts
	}
	counts := do(actAttack)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for counts[slowClosed] < 10 { // each of them twice
		if err := pause(ctx, time.Millisecond); err != nil {
			t.Fatalf("counts %v: %v", counts, err)
		}
		counts = do(actCounts)
	}
	before := do(actWithdraw)
	if before[slowOpen] != 0 || before[slowFailed] != 0 {
		t.Errorf("counts %v after the attack: want none open, none failed", before)
	}
	server.Close()
	if counts = do(actAttack); counts[slowFailed] < 5 || counts[slowOpen] != 0 {
		t.Errorf("counts %v without a server: want 5 failed", counts)
	}
	if _, err := act(t.Context(), order{Variant: "typo"}); err == nil {
		t.Error("attackers do what there is not")
	}
}

// TestThingCaller holds that both peers get and give the same, and that another answer does not pass.
func TestThingCaller(t *testing.T) {
	t.Parallel()
	backend, stop, err := startThingBackend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for _, v := range []string{"", variantFresh} {
		call, end, err := newThingCaller(t.Context(), order{URL: backend + thingEntry, Variant: v})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := call(t.Context(), 1); err != nil {
				t.Errorf("%q: %v", v, err)
			}
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(newThing()) // not what it is to become
	}))
	t.Cleanup(other.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := newThingCaller(ctx, order{URL: other.URL}); err == nil {
		t.Error("a wrong answer passes")
	}
	if data, err := json.Marshal(newThing()); err != nil || len(data) < 90 || len(data) > 110 {
		t.Errorf("a thing has %d bytes, %v: want about 100", len(data), err)
	}
}

// TestGatewayGroup keeps `-only gateway` what it says.
func TestGatewayGroup(t *testing.T) {
	t.Parallel()
	for _, p := range parts() {
		if (strings.HasPrefix(p.name, nameGateway) || p.name == "sse") && p.group != nameGateway {
			t.Errorf("part %s has the group %q: want %s", p.name, p.group, nameGateway)
		}
	}
}

func TestRaiseFiles(t *testing.T) {
	t.Parallel()
	if n, err := raiseFiles(100); err != nil || n != 100 {
		t.Errorf("%d files, %v: want 100", n, err)
	}
}
