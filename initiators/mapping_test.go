package initiators_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// mirrored is a target that answers what it was sent.
type mirrored struct{ got initiators.TimerRequest }

// CreateTimer keeps what it was given.
func (m *mirrored) CreateTimer(_ context.Context, t initiators.TimerRequest) (string, error) {
	m.got = t
	return "id", nil
}

// mapBy is what a mapping makes of a request, seen by what it calls.
func mapBy(t testing.TB, m initiators.Mapping, req initiators.Request) (string, error) {
	t.Helper()
	seen := &mirrored{}
	target, err := initiators.Sources{Timers: seen}.Target(initiators.Spec{
		Timer: &initiators.TimerSpec{After: "1s", Target: "route://x"}, Request: &m,
	})
	if err != nil {
		return "", err
	}
	_, err = target.Send(t.Context(), req)
	return string(seen.got.Payload), err
}

func outside(contentType, body string) initiators.Request {
	values := map[string]string{"path.id": "7", "query.n": "12", "query.b": "true", "query.f": "1.50", "query.j": `{"a":[1]}`, "header.X-A": "a\"b", "empty": "", "name": " Ab "}
	return initiators.Request{
		ID: "rid", ContentType: contentType, Body: []byte(body),
		Values: func(name string) (string, bool) { v, ok := values[name]; return v, ok },
		Members: func() (low, high map[string]any) {
			return map[string]any{"n": "12", "id": "query"}, map[string]any{"id": "7"}
		},
	}
}

func TestMapping(t *testing.T) {
	t.Parallel()
	msgpack, err := bus.MessagePack{}.Marshal(map[string]any{"m": map[string]any{"a": "x"}, "n": 5})
	if err != nil {
		t.Fatal(err)
	}
	type fields = map[string]string
	for name, tt := range map[string]struct {
		mapping initiators.Mapping
		body    string
		want    string
	}{
		"pass":                       {initiators.Mapping{}, `not JSON`, `not JSON`},
		"merge":                      {initiators.Mapping{Body: "merge"}, `{"id":1,"x":1.0e2,"n":3}`, `{"id":"7","n":3,"x":1.0e2}`},
		"merge what has colons":      {initiators.Mapping{Body: "merge"}, `{"a:":":\"}:","b\\":{"c":1,"c":[{":":2}]}, "d" : []}`, `{"a:":":\"}:","b\\":{"c":1,"c":[{":":2}]},"d":[],"id":"7","n":"12"}`},
		"merge nothing":              {initiators.Mapping{Body: "merge"}, ` `, `{"id":"7","n":"12"}`},
		"none":                       {initiators.Mapping{Body: "none"}, `{"a":1}`, ``},
		"fields alone":               {initiators.Mapping{Body: "none", Fields: fields{"a": "{path.id}"}}, `{"b":1}`, `{"a":"7"}`},
		"fields count most":          {initiators.Mapping{Fields: fields{"id": "f", "n": "{query.n|int}"}}, `{"id":2}`, `{"id":"f","n":12}`},
		"types":                      {initiators.Mapping{Body: "none", Fields: fields{"i": "{query.n|int}", "f": "{query.f|float}", "b": "{query.b|bool}", "j": "{query.j|json}", "s": "{query.n}"}}, ``, `{"b":true,"f":1.50,"i":12,"j":{"a":[1]},"s":"12"}`},
		"text around":                {initiators.Mapping{Body: "none", Fields: fields{"a": "n={query.n|int}, {{x}}"}}, ``, `{"a":"n=12, {x}"}`},
		"escaped":                    {initiators.Mapping{Body: "none", Fields: fields{"a": "{header.X-A}"}}, ``, `{"a":"a\"b"}`},
		"letters":                    {initiators.Mapping{Body: "none", Fields: fields{"l": "{name|trim|lower}", "u": "{name|upper}"}}, ``, `{"l":"ab","u":" AB "}`},
		"default":                    {initiators.Mapping{Body: "none", Fields: fields{"a": "{nothing|default:x:y}", "b": "{empty|default:1|int}", "c": "{query.n|default:5}"}}, ``, `{"a":"x:y","b":1,"c":"12"}`},
		"optional":                   {initiators.Mapping{Body: "none", Fields: fields{"a": "{nothing|optional}", "b": "x{nothing|optional|int}", "c": "1"}}, ``, `{"c":"1"}`},
		"path":                       {initiators.Mapping{Fields: fields{"x.y.z": "1", "x.a": "2", "n.b": "3"}}, `{"x":{"k":null,"y":[]}}`, `{"id":"7","n":{"b":"3"},"x":{"a":"2","k":null,"y":{"z":"1"}}}`},
		"members of the body":        {initiators.Mapping{Body: "none", Fields: fields{"a": "{body.x.y}", "b": "{body.n}", "c": "{body.s}"}}, `{"x":{"y":{"z":1e1}},"n":null,"s":"t"}`, `{"a":{"z":1e1},"b":null,"c":"t"}`},
		"whole body":                 {initiators.Mapping{Body: "none", Fields: fields{"raw": "{body}", "id": "{id}"}}, "a\x00<", `{"id":"rid","raw":"a\u0000<"}`},
		"MessagePack":                {initiators.Mapping{Body: "merge", Fields: fields{"x": "{body.m.a}"}}, string(msgpack), `{"id":"7","m":{"a":"x"},"n":5,"x":"x"}`},
		"bytes":                      {initiators.Mapping{Body: "none", Fields: fields{"a": "{body|optional|base64}", "b": "{body|default:x}", "c": "{body|optional}", "d": "data:;base64,{body|base64}", "e": "{name|trim|base64}"}}, "\x89PNG\xff", `{"a":"iVBOR/8=","b":"x","d":"data:;base64,iVBOR/8=","e":"QWI="}`},
		"MessagePack passes":         {initiators.Mapping{}, string(msgpack), string(msgpack)},
		"twice the same, by ordered": {initiators.Mapping{Body: "none", Fields: fields{"a": "1", "a.b": "2"}}, ``, `{"a":{"b":"2"}}`},
	} {
		contentType := ""
		if tt.body == string(msgpack) {
			contentType = "application/msgpack"
		}
		if got, err := mapBy(t, tt.mapping, outside(contentType, tt.body)); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

func TestMappingRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		template, body, want string
	}{
		"missing":     {"{query.x}", ``, "query.x is missing"},
		"int":         {"{path.x|default:12a|int}", ``, "want a whole number"},
		"float":       {"{path.x|default:0x10|float}", ``, "want a number"},
		"infinite":    {"{path.x|default:inf|float}", ``, "want a number"},
		"bool":        {"{path.x|default:ja|bool}", ``, "want true or false"},
		"json":        {"{path.x|default:[|json}", ``, "want JSON"},
		"bytes":       {"{body}", "\xff", "body is not UTF-8: {body|base64} would be"},
		"bytes, low":  {"{body|lower|base64}", "\xff", "body is not UTF-8"},
		"in a text":   {"x{body}", "\xff", "body is not UTF-8"},
		"in a member": {"{body.a}", "{\"a\":\"\xff\"}", "body.a is missing"},
		"body member": {"{body.x.y}", `{"x":1}`, "body.x.y is missing"},
		"no object":   {"x", `[1]`, "no JSON object"},
		"twice":       {"x", `{"b":{"c":1,"c":1},"b":[":"]}`, "two members of one name"},
		"twice so":    {"x", `{"b\"":1, "\u0062\"" : "\\"}`, "two members of one name"},
		"null":        {"x", `null`, "no JSON object"},
	} {
		how := initiators.BodyNone
		if tt.template == "x" {
			how = initiators.BodyMerge
		}
		_, err := mapBy(t, initiators.Mapping{Body: how, Fields: map[string]string{"a": tt.template}}, initiators.Request{Body: []byte(tt.body)})
		if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestMappingHeader(t *testing.T) {
	t.Parallel()
	target, infos := echoing(t)
	mapping := &initiators.Mapping{Header: map[string]string{"X-User": "u-{path.id}", "X-None": "{nothing|optional}"}}
	to, err := target.Target(initiators.Spec{Call: "app.echo", Request: mapping, Reply: &initiators.Mapping{Fields: map[string]string{"was": "{body.a}", "by": "{path.id}"}}})
	if err != nil {
		t.Fatal(err)
	}
	req := outside("", `{"a":1}`)
	req.Header, req.Key = nats.Header{"X-Other": {"o"}}, "k-1"
	rep, err := to.Send(t.Context(), req)
	if err != nil || string(rep.Body) != `{"a":1,"by":"7","was":1}` {
		t.Errorf("%s, %v", rep.Body, err)
	}
	want := nats.Header{"X-User": {"u-7"}, "X-Other": {"o"}, "Idempotency-Key": {"k-1"}}
	if diff := cmp.Diff(want, <-infos); diff != "" {
		t.Errorf("the service got (+):\n%s", diff)
	}
	req.Values = func(string) (string, bool) { return "a\r\nX-Evil: 1", true }
	if _, err := to.Send(t.Context(), req); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("a header with a line break: %v", err)
	}
}

func TestSpecValidate(t *testing.T) {
	t.Parallel()
	timer := func(s initiators.TimerSpec) initiators.Spec { return initiators.Spec{Timer: &s} }
	mapped := func(m initiators.Mapping) initiators.Spec { return initiators.Spec{Route: "r", Request: &m} }
	for name, tt := range map[string]struct {
		spec  initiators.Spec
		field string
	}{
		"nothing":            {initiators.Spec{}, "target"},
		"two":                {initiators.Spec{Call: "a.b", Route: "c"}, "target"},
		"call":               {initiators.Spec{Call: "a"}, "call"},
		"call placeholder":   {initiators.Spec{Call: "{path.a}.b"}, "call"},
		"route":              {initiators.Spec{Route: "a.b"}, "route"},
		"subject":            {initiators.Spec{Publish: "a..b"}, "publish"},
		"wildcard":           {initiators.Spec{Stream: "a.>"}, "stream"},
		"subject brace":      {initiators.Spec{Stream: "a.{b"}, "stream"},
		"subject filter":     {initiators.Spec{Publish: "a.{b|int}"}, "publish"},
		"timer without time": {timer(initiators.TimerSpec{Target: "route://x"}), "timer"},
		"timer with both":    {timer(initiators.TimerSpec{After: "1s", At: "{body.at}", Target: "route://x"}), "timer"},
		"timer after":        {timer(initiators.TimerSpec{After: "soon", Target: "route://x"}), "timer.after"},
		"timer before":       {timer(initiators.TimerSpec{After: "-1s", Target: "route://x"}), "timer.after"},
		"timer at":           {timer(initiators.TimerSpec{At: "tomorrow", Target: "route://x"}), "timer.at"},
		"timer id":           {timer(initiators.TimerSpec{After: "1s", ID: "a b", Target: "route://x"}), "timer.id"},
		"timer target":       {timer(initiators.TimerSpec{After: "1s"}), "timer.target"},
		"mapping body":       {mapped(initiators.Mapping{Body: "all"}), "request.body"},
		"mapping pass":       {mapped(initiators.Mapping{Body: "pass", Fields: map[string]string{"a": "b"}}), "request.body"},
		"mapping name":       {mapped(initiators.Mapping{Fields: map[string]string{"a..b": "c"}}), "request.fields"},
		"mapping template":   {mapped(initiators.Mapping{Fields: map[string]string{"a": "{b|c}"}}), "request.fields.a"},
		"mapping brace":      {mapped(initiators.Mapping{Fields: map[string]string{"a": "b}"}}), "request.fields.a"},
		"mapping argument":   {mapped(initiators.Mapping{Fields: map[string]string{"a": "{b|int:5}"}}), "request.fields.a"},
		"mapping header":     {mapped(initiators.Mapping{Header: map[string]string{"Nats-Msg-Id": "x"}}), "request.header"},
		"mapping long":       {mapped(initiators.Mapping{Fields: map[string]string{"a": strings.Repeat("x", 1025)}}), "request.fields.a"},
	} {
		err := tt.spec.Validate()
		if e := bus.AsError(err); e == nil || e.Code != bus.InvalidArgument || e.Details["field"] != tt.field || !strings.HasPrefix(e.Message, tt.field) {
			t.Errorf("%s: %v, want the field %s", name, err, tt.field)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a", "{path.id}", "x{a|int}y", "{{", "}}", "{a|default:b|lower}", "{", "}", "{}", "{a|default:}", "{{{a}}}", "{a|base64}", "{a|upper|base64}"} {
		f.Add(s, "v")
		f.Add(s, "\xff")
	}
	f.Fuzz(func(t *testing.T, source, value string) {
		m := initiators.Mapping{Body: "none", Fields: map[string]string{"a": source}}
		if m.Validate() != nil {
			return
		}
		var asked []string
		got, err := mapBy(t, m, initiators.Request{Values: func(name string) (string, bool) {
			asked = append(asked, name)
			return value, true
		}})
		changed := strings.ContainsRune(got, utf8.RuneError) && !strings.ContainsRune(source+value, utf8.RuneError)
		if err == nil && (!strings.HasPrefix(got, `{`) || changed) {
			t.Errorf("%q with %q: %s", source, value, got)
		}
		if !strings.Contains(source, "{") && len(asked) > 0 {
			t.Errorf("%q asked for %v", source, slices.Sorted(maps.Keys(map[string]bool{asked[0]: true})))
		}
	})
}

// A body is parsed once, however many of its members are asked for. Allocations are counted, so nothing may run beside this test.
func TestMappingParsesOnce(t *testing.T) {
	body := `{"a":1` + strings.Repeat(`,"xxxxxxxxxx":[1,2,3]`, 10_000) + `}`
	allocated := func(fields int) float64 {
		m := initiators.Mapping{Body: initiators.BodyNone, Fields: map[string]string{}}
		for i := range fields {
			m.Fields["f"+strconv.Itoa(i)] = "{body.a}"
		}
		return testing.AllocsPerRun(2, func() {
			if _, err := mapBy(t, m, outside("", body)); err != nil {
				t.Error(err)
			}
		})
	}
	if one, many := allocated(1), allocated(100); many > 2*one {
		t.Errorf("one member takes %v allocations, 100 take %v", one, many)
	}
}
