package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"
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

// A stream that lost its end, and has grown past it since, has other writes where a backend has applied some: they are sent to it.
func TestResumeWhereEndIsLost(t *testing.T) {
	t.Parallel()
	m := mirrorWith(t, 9)
	n := &node{Backend: Backend{Name: "a", Generation: 1}, nodeState: newNodeState(m.cfg.Lanes)}
	at := func(seq uint64) int64 {
		t.Helper()
		raw, err := m.rawWrite(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		return raw.Time.UnixNano()
	}
	var revision uint64
	for _, c := range []struct {
		name string
		was  progress
		want uint64
	}{
		{"nothing is lost", progress{Read: 7, ReadAt: at(7)}, 7},
		{"writes from 6 on came later than the last that was read", progress{Read: 8, ReadAt: at(6) - 1}, 5},
		{"the same, and the stream is not as long as it was", progress{Read: 12, ReadAt: at(6) - 1}, 5},
		{"and no write came later", progress{Read: 12, ReadAt: at(9) + 1}, 9},
		{"all came later", progress{Read: 8, ReadAt: at(1) - 1}, 0},
		{"it is not known when that was stored", progress{Read: 8}, 8},
	} {
		c.was.Generation, c.was.Term = 1, "t"
		data, err := json.Marshal(c.was)
		if err != nil {
			t.Fatal(err)
		}
		if revision, err = m.putProgress(t.Context(), n.Name, data, revision); err != nil {
			t.Fatal(err)
		}
		if r, err := m.resume(t.Context(), n); err != nil || r.Read != c.want || r.gap {
			t.Errorf("%s: it goes on with %+v, %v, want it after %d", c.name, r, err, c.want)
		}
	}
}

// A process that reads on after its server has lost the end of the stream notices that the last write it has read is another one.
func TestReaderWhereEndIsLost(t *testing.T) {
	t.Parallel()
	m := mirrorWith(t, 3)
	s := &sender{m: m, failed: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err := s.read(ctx, 0, func(w *write, _ uint64) error {
		if w.seq == 3 {
			w.at = w.at.Add(-time.Second) // as the one was that is gone
			return m.conn.NATS().ForceReconnect()
		}
		return nil
	})
	if !errors.Is(err, errAnew) || !errors.Is(<-s.failed, errAnew) {
		t.Errorf("it ended with %v", err)
	}
}
