package http

import (
	"bytes"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		id         eventID
		name, data string
		want       string
	}{
		{eventID{}, "", "", "data: \n\n"},
		{eventID{7, "abc"}, "paid", "x", "id: 7-abc\nevent: paid\ndata: x\n\n"},
		{eventID{}, "", "a\r\n\r\nb", "data: a\ndata: \ndata: b\n\n"},
		{eventID{}, "", "\n", "data: \ndata: \n\n"},
		{eventID{}, "", "a\r", "data: a\ndata: \n\n"},
	} {
		if got := string(newEvent(tt.id, tt.name, []byte(tt.data)).frame); got != tt.want {
			t.Errorf("%q is framed as %q, want %q", tt.data, got, tt.want)
		}
	}
}

// Whatever a payload is, a client reads it as one event, with its lines as they were.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{"", "a", "a\nb", "\r\n", "\r\r\n\n", "data: x\n\nid: 3", ": c", "retry: 1", "\x00", "ä"} {
		f.Add(uint64(3), s)
	}
	f.Fuzz(func(t *testing.T, sequence uint64, data string) {
		out := make(chan seen, 10)
		id := eventID{sequence, "l2x"}
		readEvents(bytes.NewReader(newEvent(id, "", []byte(data)).frame), out)
		want := strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
		if len(out) != 1 {
			t.Fatalf("%q is %d events", data, len(out))
		}
		e := <-out
		if e.Data != want || e.Name+e.Retry+e.Comment != "" {
			t.Errorf("%q is read as %+v", data, e)
		}
		if r, err := lastEventID([]string{e.ID}); err != nil || r != (resumption{id, true, true}) {
			t.Errorf("the id %q is read as %+v, %v", e.ID, r, err)
		}
	})
}

func FuzzLastEventID(f *testing.F) {
	for _, s := range []string{"", "0", "1", "007", "18446744073709551615", "18446744073709551616", "-1", "+1", "1 ", "x", "1e3", "0x1", "1-", "1-a", "1-a-b", "-a"} {
		f.Add(s, "")
	}
	f.Add("1", "2")
	f.Fuzz(func(t *testing.T, a, b string) {
		values := []string{a}
		if b != "" {
			values = append(values, b)
		}
		r, err := lastEventID(values)
		sequence, stream, tagged := strings.Cut(a, "-")
		digits := sequence != "" && strings.Trim(sequence, "0123456789") == "" && (stream != "" || !tagged)
		switch {
		case err != nil && (b == "" || r != resumption{} || bus.CodeOf(err) != bus.InvalidArgument):
			t.Errorf("%q: %+v, %v", values, r, err)
		case err == nil && (b != "" || r.given != (a != "") || r.known && !digits || r.stream != "" && r.stream != stream):
			t.Errorf("%q is %+v", values, r)
		}
	})
}
