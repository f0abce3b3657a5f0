package mirror

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// chunk is a message of the ledger: what a backend answered to some writes.
//
// Of all chunks of a generation of a backend, in the order they are stored, read and floor never fall; its answer to a write is in none before the first whose read is at
// or above the write, and in none after the first whose floor is. So an answer is found without an index, and what is read to the end is known to be complete.
type chunk struct {
	generation int64
	read       uint64 // up to where the backend had been offered writes
	floor      uint64 // up to where it had answered all
	entries    []entry
}

const (
	chunkVersion = 1
	chunkEntries = 1 << 16 // of one chunk, at most
	leastEntry   = 5       // bytes of one
	hashSize     = 4
)

// encode sorts the entries by sequence. Of two for the same write the last counts. Their sequences are kept as the steps from one to the next, a
// status only where it is not that of the entry before.
func (c *chunk) encode() []byte {
	slices.SortStableFunc(c.entries, func(a, b entry) int {
		switch {
		case a.seq < b.seq:
			return -1
		case a.seq > b.seq:
			return 1
		}
		return 0
	})
	c.entries = lastOfEach(c.entries)
	b := make([]byte, 0, 40+len(c.entries)*7)
	b = append(b, chunkVersion)
	b = binary.AppendUvarint(b, uint64(c.generation)) //nolint:gosec // there and back
	b = binary.AppendUvarint(b, c.read)
	b = binary.AppendUvarint(b, c.floor)
	b = binary.AppendUvarint(b, uint64(len(c.entries)))
	var last entry
	for _, e := range c.entries {
		step := (e.seq - last.seq) << 1
		if e.status == last.status {
			b = binary.AppendUvarint(b, step)
		} else {
			b = binary.AppendUvarint(b, step|1)
			b = binary.AppendUvarint(b, uint64(e.status))
		}
		b = binary.LittleEndian.AppendUint32(b, e.hash)
		last = e
	}
	return b
}

// lastOfEach leaves one entry for each write.
func lastOfEach(sorted []entry) []entry {
	kept := sorted[:0]
	for _, e := range sorted {
		if n := len(kept); n > 0 && kept[n-1].seq == e.seq {
			kept[n-1] = e
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

var errNoChunk = errors.New("mirror: the message is no chunk of a ledger")

// decodeChunk reads what encode made. Without entries, their part is not looked at.
func decodeChunk(data []byte, withEntries bool) (*chunk, error) {
	if len(data) == 0 || data[0] != chunkVersion {
		return nil, errNoChunk
	}
	r := varints{data: data[1:]}
	c := &chunk{generation: int64(r.next()), read: r.next(), floor: r.next()} //nolint:gosec // there and back
	n := r.next()
	if r.bad || n > uint64(len(r.data)/leastEntry) {
		return nil, errNoChunk
	}
	if !withEntries {
		return c, nil
	}
	c.entries = make([]entry, 0, n)
	var last entry
	for i := range n {
		step := r.next()
		if step>>1 > math.MaxUint64-last.seq || step>>1 == 0 && i > 0 {
			return nil, errNoChunk
		}
		last.seq += step >> 1
		if step&1 != 0 {
			status := r.next()
			if status > 999 {
				return nil, errNoChunk
			}
			last.status = uint16(status) //nolint:gosec // it is not larger
		}
		if r.bad || len(r.data) < hashSize {
			return nil, errNoChunk
		}
		last.hash = binary.LittleEndian.Uint32(r.data)
		r.data = r.data[hashSize:]
		c.entries = append(c.entries, last)
	}
	if len(r.data) > 0 {
		return nil, errNoChunk
	}
	return c, nil
}

// find is the entry of a write.
func (c *chunk) find(seq uint64) (entry, bool) {
	for _, e := range c.entries {
		if e.seq == seq {
			return e, true
		}
	}
	return entry{}, false
}

// varints reads one after the other. bad is set at the first that is none, and then all are 0.
type varints struct {
	data []byte
	bad  bool
}

func (r *varints) next() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}
