package route_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

func TestStepErrors(t *testing.T) {
	t.Parallel()
	hops := []route.Hop{
		{Service: "a", Endpoint: "ok"},
		{Service: "a", Endpoint: "bad", Code: bus.Aborted, Error: "not\r\nnow ä"},
		{Route: "within", Code: bus.NotFound, Error: "outer words", Hops: []route.Hop{
			{Service: "b", Endpoint: "ok"}, {Service: "b", Endpoint: "bad", Code: bus.NotFound, Error: "none"},
		}},
		{Route: "well", Hops: []route.Hop{{Route: "deeper", Hops: []route.Hop{{Service: "c", Endpoint: "bad", Code: bus.Internal, Error: strings.Repeat("x", 500)}}}}},
		{Route: "missing", Code: bus.NotFound, Error: "no route"},
	}
	got, err := route.ParseStepErrors(route.FormatStepErrors(route.StepErrors(hops)))
	if err != nil {
		t.Fatal(err)
	}
	want := []route.StepError{
		{Step: "2", Target: "a.bad", Code: bus.Aborted, Message: "not??now ??"},
		{Step: "3.2", Target: "b.bad", Code: bus.NotFound, Message: "none"},
		{Step: "4.1.1", Target: "c.bad", Code: bus.Internal, Message: strings.Repeat("x", 200)},
		{Step: "5", Target: "route missing", Code: bus.NotFound, Message: "no route"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := route.FormatStepErrors(route.StepErrors(hops[:1])); v != "" {
		t.Errorf("without errors: %q", v)
	}
	many := make([]route.Hop, 64)
	for i := range many {
		many[i] = route.Hop{Service: strings.Repeat("s", 64), Endpoint: strings.Repeat("e", 64), Code: bus.Internal, Error: strings.Repeat("\"", 500)}
	}
	v := route.FormatStepErrors(route.StepErrors(many))
	if list, err := route.ParseStepErrors(v); err != nil || len(list) != 16 || len(v) > 12<<10 {
		t.Errorf("%d errors in %d bytes, %v", len(list), len(v), err)
	}
}

func FuzzParseStepErrors(f *testing.F) {
	f.Add("")
	f.Add(`[{"step":"1","target":"a.b","code":"aborted","message":"x"}]`)
	f.Add(`[{"step":1}]`)
	f.Fuzz(func(t *testing.T, value string) {
		list, err := route.ParseStepErrors(value)
		if err != nil {
			return
		}
		again := route.FormatStepErrors(list)
		if strings.ContainsAny(again, "\r\n\x00") {
			t.Errorf("%q is no header", again)
		}
		if _, err := route.ParseStepErrors(again); err != nil {
			t.Errorf("%q: %v", again, err)
		}
	})
}
