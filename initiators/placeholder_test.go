package initiators_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/initiators"
)

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	spec := initiators.Spec{
		Publish: "orders.{path.id}.{query.kind|default:new}",
		Timer:   &initiators.TimerSpec{After: "{query.n|int}s", Target: "call://a.b"},
		Request: &initiators.Mapping{
			Fields: map[string]string{"a": "{query.kind}", "b": "{{literal}}", "c": "{header.X-User|optional}", "d": "{bad", "e": "{query.f|float|optional}"},
			Header: map[string]string{"X": "{query.yes|bool|default:true}"},
		},
	}
	want := []initiators.Placeholder{
		{Name: "header.X-User", Optional: true},
		{Name: "path.id"},
		{Name: "query.f", Type: "number", Optional: true},
		{Name: "query.kind"},
		{Name: "query.n", Type: "integer"},
		{Name: "query.yes", Type: "boolean", Optional: true},
	}
	if diff := cmp.Diff(want, spec.Placeholders()); diff != "" {
		t.Error(diff)
	}
	if got := initiators.Placeholders(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
