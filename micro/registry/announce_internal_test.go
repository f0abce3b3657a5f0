package registry

import (
	"testing"

	"github.com/skybus-io/skybus/kv"
)

// What the feed tells of the announcer's own record, and when that means to write it again at once.
func TestRecordWatch(t *testing.T) {
	t.Parallel()
	present := kv.Entry[Record]{Key: "k", Revision: 2}
	deleted := kv.Entry[Record]{Key: "k", Revision: 3, Deleted: true}
	garbage := kv.Entry[Record]{Key: "k", Revision: 4, Err: kv.ErrBadKey}
	for _, c := range []struct {
		what          string
		batches       [][]kv.Entry[Record]
		missing, lost bool
	}{
		{"not heard of yet", nil, false, false},
		{"not there yet, or never seen", [][]kv.Entry[Record]{{}}, true, false},
		{"there", [][]kv.Entry[Record]{{present}}, false, false},
		{"written after the load", [][]kv.Entry[Record]{{}, {present}}, false, false},
		{"deleted", [][]kv.Entry[Record]{{present}, {deleted}}, true, true},
		{"overwritten", [][]kv.Entry[Record]{{present}, {garbage}}, true, true},
		{"written again", [][]kv.Entry[Record]{{present}, {deleted}, {present}}, false, true},
	} {
		w := recordWatch{lost: make(chan struct{}, 1), foreign: make(chan struct{}, 1)}
		for _, batch := range c.batches {
			w.apply(batch)
		}
		if w.missing.Load() != c.missing || len(w.lost) > 0 != c.lost {
			t.Errorf("%s: missing %v, lost %v", c.what, w.missing.Load(), len(w.lost) > 0)
		}
	}
}
