package auth

import (
	"fmt"
	"testing"
	"time"
)

// However many tokens come, so many are remembered: the latest ones, and those that are used.
func TestVerifiedIsBounded(t *testing.T) {
	t.Parallel()
	keys := &file{}
	keys.set.Store(&keySet{})
	is := &issuer{keys: keys}
	now := time.Now()
	for _, most := range []int{0, 1, 2, 7, 100} {
		v := newVerified(most)
		used := hashToken("used")
		v.put(used, goodToken{is, keys.current(), &Principal{ID: "used"}, now.Add(time.Hour)})
		for i := range 1000 {
			h := hashToken(fmt.Sprint(i))
			v.put(h, goodToken{is, keys.current(), &Principal{ID: fmt.Sprint(i)}, now.Add(time.Hour)})
			if n := len(v.young) + len(v.old); n > most+1 { // the halves of an odd number are one more
				t.Fatalf("%d are remembered, want at most %d", n, most)
			}
			if who := v.get(h, now); (who == nil) != (most == 0) || who != nil && who.ID != fmt.Sprint(i) {
				t.Fatalf("of %d the latest is %+v", most, who)
			}
			if who := v.get(used, now); most > 2 && (who == nil || who.ID != "used") {
				t.Fatalf("of %d one that is used all the time is %+v after %d others", most, who, i)
			}
		}
	}
}
