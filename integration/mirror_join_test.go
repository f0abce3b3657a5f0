//go:build unix

package integration_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/skybus-io/skybus/mirror"
)

// TestMirrorCopyAdded adds two copies while clients write: one gets all writes there were, the other one begins with another's content and those
// after it. Both end like the first ones.
func TestMirrorCopyAdded(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 2, 2)
	m := r.open()
	w := startWriters(t, r.urls(), 8, 300)
	w.await(500)

	// All that comes after the last write is sent to the new copy; what came before must be in the content it begins with.
	last := r.lastStored()
	eventually(t, patience, "the first copy has what there is so far", func() bool { return r.copies[0].lacks(0, last) == 0 })
	w.await(100)
	base := filepath.Join(t.TempDir(), "content.json")
	data, err := json.Marshal(r.copies[0].content())
	if err == nil {
		err = os.WriteFile(base, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.await(100)
	onto := startCopy(t, copyConfig{Base: base})
	empty := startCopy(t, copyConfig{})
	for _, add := range []struct {
		c    *copyProcess
		from uint64
	}{{onto, last + 1}, {empty, 1}} {
		name := copyName(len(r.copies))
		if _, err := m.Set(t.Context(), mirror.Backend{Name: name, URL: add.c.url, Active: true}, mirror.From(add.from)); err != nil {
			t.Fatal(err)
		}
		r.copies = append(r.copies, add.c)
	}
	w.await(200)
	at := r.sender(m) // and once more under another sender
	r.procs[at].Kill()
	w.await(200)
	r.settle(w, map[*copyProcess]uint64{onto: last})
	if n := len(onto.applied()); onto.applied()[0].Seq <= last {
		t.Errorf("the copy with another's content was sent write %d of its %d first, want none up to %d", onto.applied()[0].Seq, n, last)
	}
}
