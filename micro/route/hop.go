package route

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// HeaderStepErrors is what gateways and routers say of the steps that failed in an answer that is otherwise good, because they
// were not required: [FormatStepErrors] writes it, [ParseStepErrors] reads it.
const HeaderStepErrors = "Step-Errors"

// Limits of HeaderStepErrors.
const (
	maxStepErrors    = 16
	maxStepErrorText = 200 // bytes of a message
)

// Hop is what one step did: of a service, or of a route, whose own steps are in Hops.
type Hop struct {
	Service  string        `json:"service,omitempty"`
	Endpoint string        `json:"endpoint,omitempty"`
	Route    string        `json:"route,omitempty"`
	Async    bool          `json:"async,omitempty"`
	Instance string        `json:"instance,omitempty"` // the address of who answered
	Attempts int           `json:"attempts,omitempty"`
	Took     time.Duration `json:"took"`
	Code     bus.Code      `json:"code,omitempty"` // empty means success
	Error    string        `json:"error,omitempty"`
	Hops     []Hop         `json:"hops,omitempty"`
}

// Target is "service.endpoint", or "route <name>".
func (h Hop) Target() string { return target(h.Service, h.Endpoint, h.Route) }

// StepError is the error of a step.
type StepError struct {
	Step    string   `json:"step"` // its number, from 1; that of a step within step 2 is such as 2.1
	Target  string   `json:"target"`
	Code    bus.Code `json:"code"`
	Message string   `json:"message"`
}

// StepErrors are the errors in hops, in the order of the steps. A route within that failed counts once, by its step that did.
func StepErrors(hops []Hop) []StepError { return stepErrors(nil, "", hops) }

func stepErrors(all []StepError, prefix string, hops []Hop) []StepError {
	for i, h := range hops {
		step := prefix + strconv.Itoa(i+1)
		before := len(all)
		if all = stepErrors(all, step+".", h.Hops); h.Code != "" && len(all) == before {
			all = append(all, StepError{step, h.Target(), h.Code, h.Error})
		}
	}
	return all
}

// FormatStepErrors is the value of HeaderStepErrors: a JSON array in ASCII of the first 16 errors, whose messages are cut to
// 200 bytes. It is empty when there are none.
func FormatStepErrors(list []StepError) string {
	if len(list) == 0 {
		return ""
	}
	short := make([]StepError, 0, min(len(list), maxStepErrors))
	for _, e := range list[:cap(short)] {
		e.Message = fmt.Sprintf("%.*s", maxStepErrorText, ascii(e.Message))
		short = append(short, e)
	}
	value, err := json.Marshal(short)
	if err != nil {
		return "" // strings always encode
	}
	return string(value)
}

// ascii is text with a question mark for whatever a header might not carry.
func ascii(text string) string {
	out := []byte(text)
	for i, c := range out {
		if c < ' ' || c > '~' {
			out[i] = '?'
		}
	}
	return string(out)
}

// ParseStepErrors reads the value of HeaderStepErrors; the empty one is none.
func ParseStepErrors(value string) ([]StepError, error) {
	if value == "" {
		return nil, nil
	}
	var list []StepError
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		return nil, fmt.Errorf("route: header %s: %w", HeaderStepErrors, err)
	}
	return list, nil
}
