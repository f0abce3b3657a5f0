package micro

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
)

func hop(endpoint string, depth int) Hop {
	return Hop{Address: "skybus://default.dev.greeter/a", Endpoint: endpoint, Took: 1500, Code: bus.NotFound, Depth: depth}
}

func TestHopsEncoding(t *testing.T) {
	t.Parallel()
	hops := []Hop{hop("a", 0), {Address: "skybus://default.dev.x", Endpoint: "b", Depth: 1}}
	const want = "default.dev.greeter/a a 1500 not_found 0,default.dev.x b 0 - 1"
	text := encodeHops(hops)
	if text != want {
		t.Errorf("%s, want %s", text, want)
	}
	got, err := decodeHops(text)
	if diff := cmp.Diff(hops, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for _, bad := range []string{
		",", " ", "x", want + ",", "default.dev.x b 0 -", "default.dev.x b 0 - 1 2", "default.dev.x b -1 - 1", "default.dev.x b 0 - -1",
		"default.dev.x b 0 - 64", "default.dev.x b +1 - 1", "default.dev.x b 01 - 1", "default.dev.x b 0  1", "default.dev.x b 0 No 1",
		"default.dev.x b.c 0 - 1", "default.dev b 0 - 1", "skybus://default.dev.x b 0 - 1", "default.dev.x b 9223372036854775808 - 1",
		strings.Repeat("default.dev.x b 0 - 1,", MaxHops) + "default.dev.x b 0 - 1", strings.Repeat("x", maxHopsHeader+1),
	} {
		if got, err := decodeHops(bad); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%.60q is read as %v, %v", bad, got, err)
		}
	}
	if got, err := decodeHops(""); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestHopsBound(t *testing.T) {
	t.Parallel()
	ctx := withHops(t.Context())
	if !wantsHops(ctx) || wantsHops(t.Context()) {
		t.Error("who wants hops?")
	}
	for range 3 {
		var hops []Hop
		for i := range 40 {
			hops = append(hops, hop(fmt.Sprint("e", i), 0))
		}
		recordHops(ctx, hops)
		recordHops(context.WithoutCancel(t.Context()), hops)
	}
	if n := len(hopsOf(ctx)); n != MaxHops {
		t.Errorf("%d are kept", n)
	}
	for _, endpoint := range []string{"e", strings.Repeat("e", 64)} {
		var hops []Hop
		for range 100 {
			hops = append(hops, hop(endpoint, 0))
		}
		hops = append([]Hop{{Address: "nowhere", Endpoint: "x"}}, hops...) // left out
		text := encodeHops(hops)
		got, err := decodeHops(text)
		if err != nil || len(text) > maxHopsHeader || len(got) > MaxHops || len(got) < 30 {
			t.Errorf("%d hops in %d bytes: %v", len(got), len(text), err)
		}
	}
	if hopsOf(t.Context()) != nil {
		t.Error("hops of nothing")
	}
}

// FuzzHops reads anything: what is read is written the same again, what is not is refused.
func FuzzHops(f *testing.F) {
	f.Add("default.dev.greeter/a a 1500 not_found 0,default.dev.x b 0 - 1")
	f.Add("default.dev.x b 0 - 64")
	f.Add(",,")
	f.Fuzz(func(t *testing.T, value string) {
		hops, err := decodeHops(value)
		if err != nil {
			if bus.CodeOf(err) != bus.InvalidArgument || hops != nil {
				t.Fatalf("%v, %v", hops, err)
			}
			return
		}
		if again := encodeHops(hops); again != value {
			t.Fatalf("%q is written again as %q", value, again)
		}
		for _, h := range hops {
			if h.Took < 0 || h.Took > time.Duration(1<<63-1) || h.Depth < 0 || h.Depth >= MaxHops {
				t.Fatalf("%+v", h)
			}
		}
	})
}
