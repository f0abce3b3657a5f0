package scheduler

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// records are such as users make, from the least to the most.
func records() []record {
	every := &Repeat{Every: time.Minute, Max: 7, Jitter: time.Second, Start: time.Unix(1_900_000_000, 0).UTC()}
	return []record{
		{name: "default.dev.t-1", Gen: "g", N: 1, Created: 1, Target: Target{Transport: "http", URI: "http://127.0.0.1:9999/hook"}},
		{Gen: "g", N: 1, Created: 1, Target: Target{URI: "memory://a"}, ContentType: typeJSON},
		{
			Gen: newGen(), N: 12, Manual: "m1", Created: time.Now().UnixNano(), Nominal: 5, Paused: true, Key: "key", ContentType: "text/plain",
			Target: Target{Transport: "https", URI: "https://a.example/", Method: "PUT", Secret: "billing", Timeout: time.Minute},
			Header: map[string]string{"X-A": "1", "X-B": ""}, Labels: map[string]string{"kind": "reminder"},
			Retry: Retry{3, time.Second, time.Hour, 2 * time.Hour}, Repeat: every,
		},
		{Gen: "g", N: -1, Nominal: 1 << 62, Created: -1 << 62, ContentType: typeBinary, Retry: Retry{MaxAttempts: 1}},
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	for _, want := range records() {
		for _, payload := range []string{"", "payload"} {
			const due, grace = 1_800_000_000_123_456_789, 1500 * time.Millisecond
			body, err := want.encode(due, grace, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			var got record
			gotDue, gotGrace, gotPayload, err := got.decode(body)
			if err != nil || gotDue != due || gotGrace != grace || string(gotPayload) != payload || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwas read as %+v, due %d, grace %s, %q: %v", want, got, gotDue, gotGrace, gotPayload, err)
			}
			if b, err := readBrief(body); err != nil || b != (brief{want.name, due, want.Paused}) {
				t.Errorf("brief %+v, %v", b, err)
			}
			for n := range len(body) - len(payload) {
				if _, _, _, err := got.decode(body[:n]); err == nil {
					t.Errorf("%d bytes of %d were read", n, len(body))
				}
			}
		}
	}
	now := time.Now()
	usual := record{name: "default.dev.0123456789012345678901", Gen: newGen(), N: 1, Created: now.UnixNano(), Target: Target{Transport: "http", URI: "http://127.0.0.1:9999/hook"}, ContentType: typeBinary}
	if body, err := usual.encode(now.Add(time.Hour).UnixNano(), time.Second, nil); err != nil || len(body) > 100 {
		t.Errorf("the usual record takes %d bytes, %v", len(body), err)
	}
}

// A record that a dead letter would have no room for is refused when the timer is made.
func TestLongRecord(t *testing.T) {
	t.Parallel()
	r := record{Labels: map[string]string{"a": strings.Repeat("\x01", 8<<10)}}
	if _, err := r.encode(1, time.Second, nil); bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != "header" {
		t.Errorf("error %v", err)
	}
}

func TestOverdueAt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		due   int64
		grace time.Duration
		want  int64
	}{
		{0, time.Second, 1e9}, {1, time.Second, 1_001_000_000}, {1_000_000, 1500 * time.Microsecond, 3_000_000}, {999_999, 0, 1_000_000},
	} {
		if got := overdueAt(tt.due, tt.grace).UnixNano(); got != tt.want {
			t.Errorf("due %d, grace %s: %d, want %d", tt.due, tt.grace, got, tt.want)
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, r := range records() {
		body, err := r.encode(1_800_000_000_123_456_789, time.Second, []byte("payload"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(body[:len(body)-10])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r, again record
		due, grace, payload, err := r.decode(body)
		if err != nil {
			return
		}
		if b, err := readBrief(body); err != nil || b != (brief{r.name, due, r.Paused}) {
			t.Fatalf("brief %+v, %v", b, err)
		}
		encoded, err := r.encode(due, grace, payload)
		if err != nil {
			return // it is too long, or has times that JSON has not
		}
		due2, grace2, payload2, err := again.decode(encoded)
		if err != nil || due2 != due || grace2 != grace || !bytes.Equal(payload2, payload) || again.delivery("x") != r.delivery("x") {
			t.Fatalf("%+v\nwas read again as %+v, %v", r, again, err)
		}
	})
}

func TestNotes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var data []byte
	var want []note
	r := records()[0]
	for i, due := range []time.Time{now.Add(time.Second), now.Add(time.Hour), now.Add(-time.Hour)} {
		body, err := r.encode(due.UnixNano(), time.Second, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		n := noteOf("t-1", uint64(i)*1000, body, now)
		if whole := due.Before(now.Add(noteAhead)); (n.body != nil) != whole || n.gone {
			t.Errorf("due in %s: %+v", due.Sub(now), n)
		}
		want, data = append(want, n), n.append(data)
	}
	gone := noteOf("t-2", 7, nil, now)
	want, data = append(want, gone), gone.append(data)
	var got []note
	readNotes(data, func(n note) { got = append(got, n) })
	if !gone.gone || !slices.EqualFunc(got, want, func(a, b note) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("%+v\nwere read as %+v", want, got)
	}
}

func FuzzNotes(f *testing.F) {
	body, err := (&records()[0]).encode(1, time.Second, []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range []note{{id: "a", seq: 300, gone: true}, {id: "b", seq: 1, due: 1 << 60}, {id: "c", seq: 2, due: 1, body: body}} {
		f.Add(n.append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		readNotes(data, func(n note) {
			if bus.CheckToken("id", n.id) != nil {
				t.Errorf("id %q", n.id)
			}
			again = n.append(again)
		})
		rest := again
		readNotes(again, func(n note) { rest = rest[len(n.append(nil)):] })
		if len(rest) > 0 {
			t.Errorf("%d bytes were not read again", len(rest))
		}
	})
}
