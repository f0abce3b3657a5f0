package http

import (
	"fmt"
	"testing"

	"github.com/skybus-io/skybus/initiators"
)

// manyEntries are n entries that conflict with none, but for one in a hundred.
func manyEntries(n int) map[string]Stored {
	all := map[string]Stored{}
	for i := range n {
		path := fmt.Sprintf("/e%d/{id}/part", i)
		if i%100 == 99 {
			path = fmt.Sprintf("/e%d/{other}/part", i-1)
		}
		name := fmt.Sprint("e", i)
		all[name] = Stored{Name: name, Revision: uint64(i + 1), Entry: Entry{Method: "GET", Path: path, Spec: initiators.Spec{Call: "a.b"}}}
	}
	return all
}

// Of many entries all are served that can be, and an edit takes the others over as they are.
func TestCompileMany(t *testing.T) {
	t.Parallel()
	g := sketch(nil, "")
	all := manyEntries(1000)
	first := g.compile(all, nil)
	if len(first.byName) != 990 || len(first.refused) != 10 {
		t.Fatalf("%d served, %d refused", len(first.byName), len(first.refused))
	}
	edited := all["e5"]
	edited.Revision, edited.Entry.Path = 2000, "/other"
	all["e5"] = edited
	next := g.compile(all, first)
	if next.byName["e4"] != first.byName["e4"] || next.byName["e5"] == first.byName["e5"] {
		t.Error("an edit of one is one of all, or of none")
	}
}

// BenchmarkCompile is an edit of one entry of a thousand.
func BenchmarkCompile(b *testing.B) {
	g := sketch(nil, "")
	all := manyEntries(1000)
	for i := 99; i < 1000; i += 100 {
		delete(all, fmt.Sprint("e", i))
	}
	t := g.compile(all, nil)
	for b.Loop() {
		t = g.compile(all, t)
	}
}

// An entry that is refused for one of its methods keeps none of the others from those that come after it.
func TestCompileHalfConflict(t *testing.T) {
	t.Parallel()
	all := map[string]Stored{}
	for i, e := range []Entry{
		{Method: "POST", Path: "/a/{first}"}, {Methods: []string{"GET", "POST"}, Path: "/a/{second}"}, {Method: "GET", Path: "/a/{third}"}, {Method: "GET", Path: "/a/{fourth}"},
	} {
		e.Call = "a.b"
		name := fmt.Sprint("e", i+1)
		all[name] = Stored{Name: name, Revision: uint64(i + 1), Entry: e}
	}
	got := sketch(nil, "").compile(all, nil)
	for name, served := range map[string]bool{"e1": true, "e2": false, "e3": true, "e4": false} {
		if _, is := got.byName[name]; is != served || (got.refused[name].err != nil) == served {
			t.Errorf("%s is served: %v, refused for %v", name, is, got.refused[name].err)
		}
	}
}
