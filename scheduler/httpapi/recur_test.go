package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// TestRecurringRefused has what is wrong with a repeat.
func TestRecurringRefused(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for repeat, field := range map[string]string{
		`{}`: "repeat", `{"every":"1ms"}`: "repeat.every", `{"cron":"99 * * * *"}`: "repeat.cron", `{"every":"1h","cron":"@daily"}`: "repeat",
		`{"cron":"@daily","zone":"Nowhere/Atall"}`: "repeat.zone", `{"every":"1h","overlap":"maybe"}`: "repeat.overlap",
	} {
		p := send(t, http.MethodPost, h.url+"/v1/timers", `{"repeat":`+repeat+`,`+target+`}`).want(t, http.StatusUnprocessableEntity).problem(t)
		if p.fields() != field {
			t.Errorf("%s: %+v, want %s", repeat, p, field)
		}
	}
}

// TestPatchRecurring has what becomes of the next time when a timer that recurs is changed.
func TestPatchRecurring(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	mine := h.url + "/v1/timers/mine"
	send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"mine","repeat":{"every":"24h"},"after":"48h",`+target+`}`).want(t, http.StatusCreated)
	made := send(t, http.MethodGet, mine, "").want(t, http.StatusOK).timer(t)
	if !made.At.IsZero() || made.Repeat["every"] != "24h0m0s" {
		t.Errorf("%+v", made)
	}
	if tm := send(t, http.MethodPatch, mine, `{"labels":{"a":"b"}}`).want(t, http.StatusOK).timer(t); !tm.Due.Equal(made.Due) {
		t.Errorf("a label changed, and due went from %s to %s", made.Due, tm.Due)
	}
	if tm := send(t, http.MethodPatch, mine, `{"repeat":{"every":"1h"}}`).want(t, http.StatusOK).timer(t); tm.Due.After(time.Now().Add(2 * time.Hour)) {
		t.Errorf("every hour, and the next is at %s", tm.Due)
	}
	if tm := send(t, http.MethodPatch, mine, `{"repeat":null,"after":"3h"}`).want(t, http.StatusOK).timer(t); tm.Repeat != nil {
		t.Errorf("%+v", tm)
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	var got struct{ Times []time.Time }
	send(t, http.MethodPost, h.url+"/v1/timers/next?n=3", `{"repeat":{"cron":"0 12 * * *","zone":"Europe/Berlin"}}`).want(t, http.StatusOK).decode(t, &got)
	if len(got.Times) != 3 || got.Times[1].Sub(got.Times[0]) < 23*time.Hour || got.Times[0].Before(time.Now()) {
		t.Errorf("%v", got.Times)
	}
	send(t, http.MethodPost, h.url+"/v1/timers/next", `{"repeat":{"every":"1s"}}`).want(t, http.StatusOK).decode(t, &got)
	if len(got.Times) != 10 {
		t.Errorf("%v", got.Times)
	}
	send(t, http.MethodPost, h.url+"/v1/timers/next", `{"repeat":{"cron":"99 * * * *"}}`).want(t, http.StatusUnprocessableEntity).problem(t)
	send(t, http.MethodPost, h.url+"/v1/timers/next?n=0", `{"repeat":{"every":"1s"}}`).want(t, http.StatusUnprocessableEntity).problem(t)
	for tm, err := range h.timers.List(t.Context(), scheduler.Filter{}) {
		t.Errorf("%v %v was created", tm, err)
	}
}
