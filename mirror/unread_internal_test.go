package mirror

import "testing"

func TestUnreadCountsItself(t *testing.T) {
	t.Parallel()
	u := unread{alone: true, taken: 100}
	if got := u.now(107); got != 7 {
		t.Errorf("7 were stored since: %d", got)
	}
	u.read(5000, 107) // the first message says how many there are
	if got := u.now(107); got != 5000 {
		t.Errorf("after the first message: %d, want 5000", got)
	}
	u.read(4999, 1107) // the second was sent long ago: 1,000 have come since
	if got := u.now(1107); got != 5999 {
		t.Errorf("after the second: %d, want 5999", got)
	}
	if got := u.now(2107); got != 6999 {
		t.Errorf("while nothing is read: %d, want 6999", got)
	}
	u = unread{}
	if got := u.now(2107); got != 0 {
		t.Errorf("of one that reads with the others: %d", got)
	}
}
