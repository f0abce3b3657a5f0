package mirror

import (
	"encoding/json"
	"testing"
)

// A process that has followed another one goes on where that has committed last, not after the last that it has heard of.
func TestResumeReadsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	m := mirrorWith(t, 9)
	n := &node{Backend: Backend{Name: "a", Generation: 1}, nodeState: newNodeState(m.cfg.Lanes)}
	commit := func(revision uint64, p progress) uint64 {
		t.Helper()
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if revision, err = m.putProgress(t.Context(), n.Name, data, revision); err != nil {
			t.Fatal(err)
		}
		return revision
	}
	heard := progress{Generation: 1, Term: "t", Read: 3}
	revision := commit(0, heard)
	n.take(&heard, revision)
	revision = commit(revision, progress{Generation: 1, Term: "t", Read: 9, Marks: [][2]uint64{{2, 6}}})
	r, err := m.resume(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if r.Read != 9 || r.floor() != 6 || r.revision != revision || r.gap {
		t.Errorf("it goes on with %+v, want what was committed last, as record %d", r, revision)
	}
}
