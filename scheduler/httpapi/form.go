package httpapi

import (
	"bytes"
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/restapi"
	"github.com/skybus-io/skybus/scheduler"
)

// ParseTimer reads a timer in the form that POST /v1/timers takes: one JSON object. The error is invalid_argument and names the field.
func ParseTimer(text []byte) (scheduler.Spec, error) {
	spec, err := parseSpec(text)
	if err == nil {
		return spec, nil
	}
	p := restapi.Problem(context.Background(), err)
	e := bus.Wrap(bus.InvalidArgument, p.Detail, err)
	if len(p.Errors) > 0 {
		e = e.With("field", p.Errors[0].Field)
	}
	return spec, e
}

// FormatTimer is a timer in the form that GET /v1/timers/{id} answers.
func FormatTimer(t *scheduler.Timer) ([]byte, error) { return line(showTimer(t)) }

// FormatDead is a dead letter in the form that GET /v1/dead/timers/{delivery} answers.
func FormatDead(l *scheduler.DeadLetter) ([]byte, error) { return line(showLetter(l)) }

// FormatSpec is a timer in the form that [ParseTimer] reads and that makes the same one again: a recurring one goes on with its
// next occurrence, and has as many left.
func FormatSpec(t *scheduler.Timer) ([]byte, error) {
	spec := t.Spec
	if spec.Repeat == nil {
		return line(showSpec(&spec))
	}
	repeat := *spec.Repeat
	if repeat.Max > 0 {
		repeat.Max = max(repeat.Max-t.Occurrence+1, 1)
	}
	spec.Repeat = &repeat
	shown := showSpec(&spec)
	shown.At = utc(spec.At)
	return line(shown)
}

// line is v as JSON without a line's end.
func line(v any) ([]byte, error) {
	text, err := encode(v)
	return bytes.TrimSuffix(text, []byte("\n")), err
}
