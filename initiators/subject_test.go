package initiators_test

import (
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

func TestSubject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		source    string
		wildcards bool
		fixed     string // "!" where the source is refused
		want      string // "" where Expand fails
	}{
		{"default.dev.pub.orders", false, "default.dev.pub.orders", "default.dev.pub.orders"},
		{"default.dev.pub.{path.id}", false, "default.dev.pub.", "default.dev.pub.7"},
		{"default.dev.pub.{path.id}.>", true, "default.dev.pub.", "default.dev.pub.7.>"},
		{"default.dev.pub.*.{path.id}", true, "default.dev.pub.", "default.dev.pub.*.7"},
		{"a.b-{path.id}", true, "a.b-", "a.b-7"},
		{"a.{path.star}", true, "a.", ""},
		{"a.{path.dots}", true, "a.", ""},
		{"a.{path.empty}", true, "a.", ""},
		{"a.{path.none}", true, "a.", ""},
		{"a.{path.none|default:x}", true, "a.", "a.x"},
		{"a.{path.long}", true, "a.", ""},
		{">", true, "", ">"},
		{"a.>", false, "!", ""},
		{"a.*", false, "!", ""},
		{"a.>.b", true, "!", ""},
		{"a.b*", true, "!", ""},
		{"a.{path.id}*", true, "!", ""},
		{"a..b", true, "!", ""},
		{"", true, "!", ""},
		{"a.{path.id", true, "!", ""},
		{"a b", true, "!", ""},
		{strings.Repeat("a.", 200) + "a", true, "!", ""},
	} {
		s, err := initiators.ParseSubject(tt.source, tt.wildcards)
		if (err != nil) != (tt.fixed == "!") {
			t.Errorf("%q: %v", tt.source, err)
			continue
		}
		if err != nil {
			continue
		}
		if s.Fixed() != tt.fixed || s.String() != tt.source {
			t.Errorf("%q: %q is fixed, of %q", tt.source, s.Fixed(), s)
		}
		got, err := s.Expand(func(name string) (string, bool) {
			v, ok := map[string]string{
				"path.id": "7", "path.star": "*", "path.dots": "a.b", "path.empty": "", "path.long": strings.Repeat("x", 65),
			}[name]
			return v, ok
		})
		if got != tt.want || tt.want == "" && bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q: %q, %v, want %q", tt.source, got, err, tt.want)
		}
	}
}
