package mirror

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func someChunk(n int) *chunk {
	c := &chunk{generation: 1_700_000_000_000_000_000, read: 1_000_000, floor: 999_000}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	for i := range n {
		status := uint16(200)
		if r.IntN(10) == 0 {
			status = 404
		}
		c.entries = append(c.entries, entry{999_000 + uint64(i), status, r.Uint32()}) //nolint:gosec // small
	}
	return c
}

func TestChunkThereAndBack(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 500} {
		c := someChunk(n)
		want := slices.Clone(c.entries)
		rand.Shuffle(n, func(i, j int) { c.entries[i], c.entries[j] = c.entries[j], c.entries[i] })
		data := c.encode()
		got, err := decodeChunk(data, true)
		if err != nil || got.generation != c.generation || got.read != c.read || got.floor != c.floor || !slices.Equal(got.entries, want) {
			t.Errorf("%d entries: %v, %+v", n, err, got)
		}
		if n == 500 && len(data) > 500*6 {
			t.Errorf("%d entries take %d bytes, want less than 6 each", n, len(data))
		}
		head, err := decodeChunk(data, false)
		if err != nil || head.read != c.read || head.entries != nil {
			t.Errorf("head: %v, %+v", err, head)
		}
	}
}

// Of two answers to one write, the last counts.
func TestChunkKeepsTheLast(t *testing.T) {
	t.Parallel()
	c := &chunk{generation: -1, entries: []entry{{7, 500, 1}, {3, 200, 2}, {7, 201, 3}}}
	got, err := decodeChunk(c.encode(), true)
	if want := []entry{{3, 200, 2}, {7, 201, 3}}; err != nil || !slices.Equal(got.entries, want) || got.generation != -1 {
		t.Errorf("%v, %+v, want %v", err, got, want)
	}
}

func TestChunkRefused(t *testing.T) {
	t.Parallel()
	good := (&chunk{generation: 5, read: 9, floor: 8, entries: []entry{{7, 200, 1}, {8, 201, 2}}}).encode()
	for i := range good {
		if _, err := decodeChunk(good[:i], true); !errors.Is(err, errNoChunk) {
			t.Errorf("the first %d bytes of %d: %v", i, len(good), err)
		}
	}
	for name, data := range map[string][]byte{
		"more than it says": append(bytes.Clone(good), 0),
		"another version":   append([]byte{9}, good[1:]...),
		"too many entries":  {chunkVersion, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3, 4, 5},
		"step of 0":         {chunkVersion, 0, 0, 0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"status of 1000":    {chunkVersion, 0, 0, 0, 1, 3, 0xe8, 7, 0, 0, 0, 0},
	} {
		if c, err := decodeChunk(data, true); !errors.Is(err, errNoChunk) {
			t.Errorf("%s: %v, %+v", name, err, c)
		}
	}
}

func FuzzChunk(f *testing.F) {
	f.Add(someChunk(3).encode())
	f.Add((&chunk{generation: -5, entries: []entry{{1<<64 - 1, 0, 0}}}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeChunk(data, true)
		if err != nil {
			return
		}
		again, err := decodeChunk((&chunk{c.generation, c.read, c.floor, slices.Clone(c.entries)}).encode(), true)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%v: %+v became %+v", err, c, again)
		}
	})
}

// The budget is 1 us an entry, with all it takes but the server.
func BenchmarkChunk(b *testing.B) {
	c := someChunk(500)
	b.ReportAllocs()
	for b.Loop() {
		c.encode()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/entry")
}

// What a reader has read of a backend counts only for the generation that it belongs to, and is complete up to the floor.
func TestLedgerReaderTakes(t *testing.T) {
	t.Parallel()
	r := &ledgerReader{b: Backend{From: 10, Generation: 2}, after: 3, complete: 3, waiting: map[uint64]noted{}}
	for _, step := range []struct {
		c        chunk
		complete uint64
		waiting  []uint64
	}{
		{chunk{1, 9, 2, []entry{{2, 200, 0}, {9, 200, 0}}}, 3, []uint64{9}},        // 2 is not asked for
		{chunk{1, 20, 20, []entry{{4, 200, 0}, {12, 200, 0}}}, 10, []uint64{4, 9}}, // 12 is void
		{chunk{2, 15, 11, []entry{{11, 200, 0}, {15, 200, 0}}}, 11, []uint64{4, 9, 11, 15}},
		{chunk{2, 15, 9, nil}, 11, []uint64{4, 9, 11, 15}}, // a floor that falls is none
		{chunk{2, 16, 16, []entry{{12, 500, 0}}}, 16, []uint64{4, 9, 11, 12, 15}},
	} {
		r.take(&step.c)
		if got := slices.Sorted(maps.Keys(r.waiting)); r.complete != step.complete || !slices.Equal(got, step.waiting) {
			t.Errorf("after %+v: complete to %d with %v, want %d with %v", step.c, r.complete, got, step.complete, step.waiting)
		}
	}
	late := chunk{2, 1 << 20, 16, nil}
	for i := range uint64(diffAhead + 1) {
		late.entries = append(late.entries, entry{100 + i, 200, 0})
	}
	r.take(&late)
	if r.complete < diffAhead/4 {
		t.Errorf("complete to %d: a lane that is far behind keeps more than %d answers in memory", r.complete, diffAhead)
	}
}
