package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// TestFormatSpec reads what it wrote: that makes the same timer again.
func TestFormatSpec(t *testing.T) {
	t.Parallel()
	at := time.Date(2200, 5, 1, 12, 0, 0, 17, time.UTC)
	target := scheduler.Target{Transport: "http", URI: "https://example.org/", Secret: "billing", Timeout: time.Second}
	for name, tt := range map[string]struct {
		timer scheduler.Timer
		want  func(*scheduler.Spec) // what is to differ
	}{
		"once": {timer: scheduler.Timer{Spec: scheduler.Spec{
			ID: "a", At: at, Target: target, Payload: []byte(`{"n":1}`), ContentType: "application/json",
			Labels: map[string]string{"a": "b"}, Header: map[string]string{"X-A": "b"}, Retry: scheduler.Retry{MaxAttempts: 3, First: time.Second},
		}}},
		"bytes": {timer: scheduler.Timer{Spec: scheduler.Spec{ID: "a", Key: "k", At: at, Target: target, Payload: []byte{0, 255}, ContentType: "a/b", Paused: true}}},
		"recurring": {timer: scheduler.Timer{Spec: scheduler.Spec{ID: "a", At: at, Target: target, Repeat: &scheduler.Repeat{
			Every: time.Minute, Start: at, Jitter: time.Second, Overlap: scheduler.Allow,
		}}, Occurrence: 4}},
		"with a last one": {
			timer: scheduler.Timer{Spec: scheduler.Spec{ID: "a", At: at, Target: target, Repeat: &scheduler.Repeat{Cron: "@daily", Zone: "Europe/Berlin", Max: 5}}, Occurrence: 4},
			want:  func(s *scheduler.Spec) { s.Repeat = &scheduler.Repeat{Cron: "@daily", Zone: "Europe/Berlin", Max: 2} },
		},
	} {
		text, err := httpapi.FormatSpec(&tt.timer)
		if err != nil || strings.Contains(string(text), "\n") {
			t.Errorf("%s: %q, %v: want one line", name, text, err)
		}
		got, err := httpapi.ParseTimer(text)
		want := tt.timer.Spec
		if tt.want != nil {
			tt.want(&want)
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestParseTimerNamesTheField(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`{"after":"soon"}`: "after", `{"target":{"uri":1}}`: "target.uri", `{"colour":"red"}`: "colour", `[]`: "", `{`: "",
	} {
		_, err := httpapi.ParseTimer([]byte(text))
		if bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != field {
			t.Errorf("%s: %v with the details %v, want invalid_argument and the field %q", text, err, bus.AsError(err).Details, field)
		}
	}
}

// TestFormats writes what the API answers with.
func TestFormats(t *testing.T) {
	t.Parallel()
	timer := scheduler.Timer{Spec: scheduler.Spec{ID: "a", Target: scheduler.Target{URI: "x"}}, State: scheduler.Firing, Revision: 7}
	text, err := httpapi.FormatTimer(&timer)
	var got struct {
		ID       string
		State    string
		Revision int
	}
	if jerr := json.Unmarshal(text, &got); err != nil || jerr != nil || got.ID != "a" || got.State != "firing" || got.Revision != 7 {
		t.Errorf("%s, %v, %v", text, err, jerr)
	}
	text, err = httpapi.FormatDead(&scheduler.DeadLetter{ID: "a-b-1", Timer: timer, Attempts: 3})
	var dead struct {
		Delivery string
		Attempts int
		Timer    struct{ ID string }
	}
	if jerr := json.Unmarshal(text, &dead); err != nil || jerr != nil || dead.Delivery != "a-b-1" || dead.Attempts != 3 || dead.Timer.ID != "a" {
		t.Errorf("%s, %v, %v", text, err, jerr)
	}
}
