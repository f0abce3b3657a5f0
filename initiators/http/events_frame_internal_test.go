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
		sequence   uint64
		name, data string
		want       string
	}{
		{0, "", "", "data: \n\n"},
		{7, "paid", "x", "id: 7\nevent: paid\ndata: x\n\n"},
		{0, "", "a\r\n\r\nb", "data: a\ndata: \ndata: b\n\n"},
		{0, "", "\n", "data: \ndata: \n\n"},
		{0, "", "a\r", "data: a\ndata: \n\n"},
	} {
		if got := string(newEvent(tt.sequence, tt.name, []byte(tt.data)).frame); got != tt.want {
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
		readEvents(bytes.NewReader(newEvent(sequence, "", []byte(data)).frame), out)
		want := strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
		if len(out) != 1 {
			t.Fatalf("%q is %d events", data, len(out))
		}
		e := <-out
		if e.Data != want || (e.ID == "") != (sequence == 0) || e.Name+e.Retry+e.Comment != "" {
			t.Errorf("%q is read as %+v", data, e)
		}
	})
}

func FuzzLastEventID(f *testing.F) {
	for _, s := range []string{"", "0", "1", "007", "18446744073709551615", "18446744073709551616", "-1", "+1", "1 ", "x", "1e3", "0x1"} {
		f.Add(s, "")
	}
	f.Add("1", "2")
	f.Fuzz(func(t *testing.T, a, b string) {
		values := []string{a}
		if b != "" {
			values = append(values, b)
		}
		last, ok, err := lastEventID(values)
		digits := a != "" && strings.Trim(a, "0123456789") == ""
		switch {
		case err != nil && (ok || bus.CodeOf(err) != bus.InvalidArgument || len(err.Error()) > 300):
			t.Errorf("%q: %d, %v, %v", values, last, ok, err)
		case err == nil && ok && (!digits || b != ""):
			t.Errorf("%q is %d", values, last)
		case err == nil && !ok && (a != "" || b != ""):
			t.Errorf("%q is nothing", values)
		}
	})
}
