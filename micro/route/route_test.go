package route_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/micro/route"
)

func steps(n int) []route.Step {
	all := make([]route.Step, n)
	for i := range all {
		all[i] = step("s.e")
	}
	return all
}

func TestValidate(t *testing.T) {
	t.Parallel()
	ok := step("orders.place")
	tests := map[string]struct {
		route route.Route
		bad   []string // fields
	}{
		"one step":     {route: route.Route{Steps: []route.Step{ok}}},
		"64 steps":     {route: route.Route{Steps: steps(64)}},
		"all set":      {route: route.Route{Description: "d", Steps: []route.Step{step("a.b", async, retry, optional, version("1.2.3-rc.1+x"), within(time.Hour))}}},
		"longest name": {route: route.Route{Steps: []route.Step{step(strings.Repeat("s", 64) + "." + strings.Repeat("e", 64))}}},

		"no steps":         {route: route.Route{}, bad: []string{"steps"}},
		"65 steps":         {route: route.Route{Steps: steps(65)}, bad: []string{"steps"}},
		"long description": {route: route.Route{Description: strings.Repeat("d", 1025), Steps: steps(1)}, bad: []string{"description"}},
		"second step":      {route: route.Route{Steps: []route.Step{ok, {}}}, bad: []string{"steps[1].service", "steps[1].endpoint"}},
		"bad version":      {route: route.Route{Steps: []route.Step{step("a.b", version("1.2"))}}, bad: []string{"steps[0].version"}},
		"wild version":     {route: route.Route{Steps: []route.Step{step("a.b", version("1.2.>"))}}, bad: []string{"steps[0].version"}},
		"negative timeout": {route: route.Route{Steps: []route.Step{step("a.b", within(-1))}}, bad: []string{"steps[0].timeout"}},
		"huge timeout":     {route: route.Route{Steps: []route.Step{step("a.b", within(time.Hour+1))}}, bad: []string{"steps[0].timeout"}},
		"largest timeout":  {route: route.Route{Steps: []route.Step{step("a.b", within(1<<63-1))}}, bad: []string{"steps[0].timeout"}},
		"everything": {
			route: route.Route{Description: strings.Repeat("d", 2000), Steps: []route.Step{ok, step("a b.*", version("x"), within(-1))}},
			bad:   []string{"description", "steps[1].service", "steps[1].endpoint", "steps[1].version", "steps[1].timeout"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.route.Validate()
			if diff := cmp.Diff(tt.bad, fields(err)); diff != "" {
				t.Errorf("error %v names other fields (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestValidateTokens(t *testing.T) {
	t.Parallel()
	for _, token := range []string{
		"", ".", "a.b", "*", "a*", ">", "a>", " ", "a b", "a\tb", "a\r\nb", "\x00", "a\x00b", "ä", "\xff", "a/b", "$JS", "a=b", strings.Repeat("x", 65), strings.Repeat("x", 5000),
	} {
		r := route.Route{Steps: []route.Step{step("s.e"), {Service: token, Endpoint: token}}}
		err := r.Validate()
		if diff := cmp.Diff([]string{"steps[1].service", "steps[1].endpoint"}, fields(err)); diff != "" {
			t.Errorf("%.20q: error %v names other fields (-want +got):\n%s", token, err, diff)
			continue
		}
		if text := err.Error(); len(text) > 1000 {
			t.Errorf("%.20q: the error has %d bytes", token, len(text))
		}
	}
}

func TestParseJSON(t *testing.T) {
	t.Parallel()
	got, err := route.ParseJSON([]byte(`{
		"description": "d",
		"steps": [
			{"service": "log", "endpoint": "write", "async": true},
			{"service": "a", "endpoint": "b", "version": "1.0.0", "retry": true, "required": false, "timeout": "1.5s"}
		]
	}` + " \n"))
	if err != nil {
		t.Fatal(err)
	}
	want := route.Route{Description: "d", Steps: []route.Step{
		step("log.write", async),
		step("a.b", version("1.0.0"), retry, optional, within(1500*time.Millisecond)),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("route (-want +got):\n%s", diff)
	}
}

func TestParseJSONRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	tests := map[string]struct {
		text  string
		field string // "" means none in particular
		says  string
	}{
		"nothing":                 {text: "", says: "EOF"},
		"no JSON":                 {text: "steps:", says: "invalid character"},
		"cut short":               {text: `{"steps":[{"service":"a"`, says: "unexpected EOF"},
		"a list":                  {text: `[]`, says: "cannot unmarshal array"},
		"unknown field":           {text: `{"step":[]}`, says: `"step"`},
		"unknown field of a step": {text: `{"steps":[{},{"kind":"a"}]}`, field: "steps[1]", says: `"kind"`},
		"number for a name":       {text: `{"steps":[{"service":1}]}`, field: "steps[0].service", says: "number"},
		"text for a flag":         {text: `{"steps":[{},{},{"async":"yes"}]}`, field: "steps[2].async", says: "string"},
		"number for a timeout":    {text: `{"steps":[{"timeout":5}]}`, field: "steps[0].timeout", says: "number"},
		"timeout without unit":    {text: `{"steps":[{"timeout":"5"}]}`, field: "steps[0].timeout", says: `duration "5"`},
		"empty timeout":           {text: `{"steps":[{"timeout":""}]}`, field: "steps[0].timeout", says: `duration ""`},
		"overflowing timeout":     {text: `{"steps":[{"timeout":"99999999h"}]}`, field: "steps[0].timeout", says: `duration "99999999h"`},
		"long timeout":            {text: `{"steps":[{"timeout":"` + long + `"}]}`, field: "steps[0].timeout", says: "duration"},
		"text after the route":    {text: `{"steps":[]} {}`, says: "text after the route"},
		"a bracket after it":      {text: `{"steps":[]}]`, says: "text after the route"},
		"steps are no list":       {text: `{"steps":{}}`, says: "cannot unmarshal object"},
		"a step is no object":     {text: `{"steps":["a.b"]}`, field: "steps[0]", says: "string"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := route.ParseJSON([]byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), "route: ") || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > 300 {
				t.Errorf("error %q: want one that begins with route: and says %q", err, tt.says)
			}
			field := ""
			if fe, ok := errors.AsType[*route.FieldError](err); ok {
				field = fe.Field
			}
			if field != tt.field {
				t.Errorf("error %v: field %q, want %q", err, field, tt.field)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "1h0m0s": time.Hour, "-2s": -2 * time.Second, "1ns": 1,
	} {
		var d route.Duration
		if err := json.Unmarshal(fmt.Appendf(nil, "%q", text), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v, want %v", text, time.Duration(d), err, want)
			continue
		}
		back, err := json.Marshal(d)
		if err != nil || string(back) != fmt.Sprintf("%q", text) {
			t.Errorf("%s: written as %s, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "5", "s", "1 s", "1d", "1s ", "one second", "0x1s", "9223372036854775808ns", strings.Repeat("9", 5000)} {
		var d route.Duration
		err := d.UnmarshalText([]byte(text))
		if err == nil || d != 0 || len(err.Error()) > 200 {
			t.Errorf("%.20q: %v, %v, want an error and nothing read", text, time.Duration(d), err)
		}
	}
}

// A route without optional fields is written as briefly as it can be, and read again as it was.
func TestRouteReadsAsWritten(t *testing.T) {
	t.Parallel()
	r := route.Route{Steps: []route.Step{step("a.b")}}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"steps":[{"service":"a","endpoint":"b"}]}`; string(text) != want {
		t.Errorf("written as %s, want %s", text, want)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"steps":[{"service":"a","endpoint":"b"}]}`,
		`{"description":"d","steps":[{"service":"a","endpoint":"b","version":"1.0.0","async":true,"retry":true,"required":false,"timeout":"1.5s"}]}`,
		`{"steps":[null,{"service":"\u0000"}]}`, `null`, `[]`, `{"steps":null}`, `{"steps":[{"timeout":"-1h"}]} x`, `{"STEPS":[{"Service":"A"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := route.ParseJSON(data)
		if err != nil {
			return
		}
		if verr := r.Validate(); verr != nil {
			if len(fields(verr)) == 0 {
				t.Fatalf("error %v names no field", verr)
			}
			return
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("a valid route does not encode: %v", err)
		}
		again, err := route.ParseJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatalf("read again as another route (-before +after):\n%s", diff)
		}
	})
}
