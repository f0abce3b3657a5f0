package stream

import "testing"

func FuzzFrame(f *testing.F) {
	for _, s := range []string{"open 0 256 1048576", "accept 0 1 1", "data 17", "credit 3 4 5", "done 18446744073709551615", "ping 0 ", "data  1", "x 1", "", "data 1 2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fr, err := parseFrame(s)
		if err != nil {
			return
		}
		again, err := parseFrame(fr.String())
		if err != nil || again != fr {
			t.Errorf("%q is %+v, which reads as %+v, %v", s, fr, again, err)
		}
	})
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "data", "data x", "data -1", "data 1 2", "credit 1", "credit 1 2", "credit 1 2 3 4", "no 1", " 1", "data 18446744073709551616"} {
		if f, err := parseFrame(s); err == nil {
			t.Errorf("%q reads as %+v", s, f)
		}
	}
}
