package mirror

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkMinimum is what it costs to see whether a backend has applied what a read asks for.
func BenchmarkMinimum(b *testing.B) {
	for name, lane := range map[string]int{"lane": 3, "all": -1} {
		b.Run(name, func(b *testing.B) {
			n := newNodeState(64)
			n.marks[3].Store(1000)
			n.floor.Store(1000)
			want := minimum{1000, lane}
			for b.Loop() {
				if !n.met(want) {
					b.Fatal("not met")
				}
			}
		})
	}
}

// BenchmarkMinimumOf is with what is read from the header.
func BenchmarkMinimumOf(b *testing.B) {
	m := &Mirror{cfg: Config{Lanes: 64}}
	n := newNodeState(64)
	n.marks[3].Store(1000)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/x", nil)
	r.Header.Set(headerMinSeq, "1000")
	r.Header.Set(headerLane, "3")
	for b.Loop() {
		want, err := m.minimumOf(r)
		if err != nil || !n.met(want) {
			b.Fatal("not met")
		}
	}
}

func FuzzMinimum(f *testing.F) {
	f.Add("1", "2")
	f.Add("18446744073709551615", "")
	f.Add("-1", "+1")
	f.Fuzz(func(t *testing.T, seq, lane string) {
		m := &Mirror{cfg: Config{Lanes: 8, Cookie: "c"}}
		want, ok := m.parseMinimum(seq, lane)
		if !ok {
			return
		}
		if want.lane >= 8 || want.lane < 0 && lane != "" {
			t.Errorf("%q.%q is %+v", seq, lane, want)
		}
		newNodeState(8).met(want)
	})
}

func TestWithoutCookie(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"a=1; m=2; b=3": "a=1; b=3", "m=2": "", "am=2; m=1": "am=2", "a=m": "a=m", "a=1;m=2": "a=1", "a=1;  b=2": "a=1;  b=2", "x": "x",
	} {
		if got := withoutCookie(value, "m"); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if got := withoutCookie("a=1", ""); got != "a=1" {
		t.Errorf("%q", got)
	}
}
