package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// DiffBy says which answers count as different.
type DiffBy string

// What answers are compared by.
const (
	ByClass  DiffBy = "class"  // taken, refused or failed: the default
	ByStatus DiffBy = "status" // the HTTP status
	ByBody   DiffBy = "body"   // the HTTP status, and a hash of the body
)

// DiffFilter chooses writes and backends. The zero value compares the answers of all active backends to all writes that the ledger knows.
type DiffFilter struct {
	From uint64 // the first write; 0 means the first that the ledger knows
	To   uint64 // the last; 0 means the last
	By   DiffBy // empty means ByClass
	// Backends to compare, by name. Empty means all active ones.
	Backends []string
}

// Difference is a write that backends have answered differently. Of one that is not kept any more only Seq, Answers and Missing are known, and Lane is -1.
type Difference struct {
	Seq     uint64                   `json:"seq"`
	Lane    int                      `json:"lane"`
	Method  string                   `json:"method,omitempty"`
	Target  string                   `json:"target,omitempty"`
	Stored  time.Time                `json:"stored,omitzero"`
	Answers map[string]BackendAnswer `json:"answers"`
	// Missing are the backends whose answer is not known: they have not answered yet, or the ledger has no room for what is so old.
	Missing []string `json:"missing,omitempty"`
}

// BackendAnswer is what the ledger knows of an answer.
type BackendAnswer struct {
	Status int    `json:"status"` // 0 when the write was given up
	Body   string `json:"body"`   // CRC-32C of the body, in hexadecimal; of one larger than [Config].MaxAnswer that of nothing
}

// diffAhead is how many answers of one backend are in memory.
const diffAhead = 1 << 16

// Diff is the writes that backends have answered differently, in their order, as the ledger has them. It holds a bounded number of answers in memory: where
// one lane of a backend is more than some 32,000 answers behind its others, the answers of that lane are taken for missing. A write that was sent to a
// backend again counts with its last answer, also where it was parked and somebody retried it.
func (m *Mirror) Diff(ctx context.Context, f DiffFilter) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		d, err := m.newDiff(ctx, f)
		if err == nil {
			defer d.close(ctx)
			err = d.run(ctx, func(diff Difference) bool { return yield(diff, nil) })
		}
		if err != nil {
			yield(Difference{}, err)
		}
	}
}

// diff merges what the ledger has of several backends.
type diff struct {
	m       *Mirror
	f       DiffFilter
	readers []*ledgerReader
	done    uint64 // up to where writes were compared
	retries bool   // some parked writes were tried again
}

func (m *Mirror) newDiff(ctx context.Context, f DiffFilter) (*diff, error) {
	f.By = orDefault(f.By, ByClass)
	f.To = orDefault(f.To, math.MaxUint64)
	f.From = max(f.From, 1)
	if !slices.Contains([]DiffBy{ByClass, ByStatus, ByBody}, f.By) {
		return nil, bus.Errorf(bus.InvalidArgument, "mirror: diff: by: %.40q is none of class, status and body", f.By).With("field", "by")
	}
	d := &diff{m: m, f: f, done: f.From - 1}
	for _, n := range *m.nodes.Load() {
		if len(f.Backends) == 0 && n.Active || slices.Contains(f.Backends, n.Name) {
			d.readers = append(d.readers, &ledgerReader{m: m, b: n.Backend, after: d.done, waiting: map[uint64]noted{}})
		}
	}
	for _, name := range f.Backends {
		if m.node(name) == nil {
			return nil, bus.Errorf(bus.NotFound, "mirror: diff: there is no backend %q", name)
		}
	}
	for _, r := range d.readers {
		if err := r.open(ctx); err != nil {
			d.close(ctx)
			return nil, err
		}
	}
	var err error
	if d.retries, err = m.anyRetried(ctx); err != nil {
		d.close(ctx)
		return nil, err
	}
	return d, nil
}

func (d *diff) close(ctx context.Context) {
	for _, r := range d.readers {
		r.close(ctx)
	}
}

// run compares until yield is false or nothing is left.
func (d *diff) run(ctx context.Context, yield func(Difference) bool) error {
	for len(d.readers) > 0 && d.done < d.f.To {
		first := slices.MinFunc(d.readers, func(a, b *ledgerReader) int {
			switch {
			case a.complete < b.complete:
				return -1
			case a.complete > b.complete:
				return 1
			}
			return 0
		})
		if first.complete == math.MaxUint64 { // all are at their ends
			return nil
		}
		if err := first.advance(ctx); err != nil {
			return err
		}
		upTo := d.f.To
		for _, r := range d.readers {
			upTo = min(upTo, r.complete)
		}
		if more, err := d.compare(ctx, upTo, yield); err != nil || !more {
			return err
		}
	}
	return nil
}

// compare compares the writes up to one.
func (d *diff) compare(ctx context.Context, upTo uint64, yield func(Difference) bool) (more bool, err error) {
	if upTo <= d.done {
		return true, nil
	}
	d.done = upTo
	all := map[uint64]bool{}
	for _, r := range d.readers {
		r.after = upTo
		for seq := range r.waiting {
			if seq <= upTo {
				all[seq] = true
			}
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(all)) {
		diff, answers := d.of(seq)
		if d.retries && d.differ(answers) {
			if err := d.again(ctx, seq, answers); err != nil {
				return false, err
			}
		}
		if !d.differ(answers) {
			continue
		}
		for _, a := range answers {
			diff.Answers[a.backend.Name] = BackendAnswer{Status: int(a.status), Body: fmt.Sprintf("%08x", a.hash)}
		}
		if err := d.describe(ctx, &diff); err != nil {
			return false, err
		}
		if !yield(diff) {
			return false, nil
		}
	}
	return true, nil
}

// answerBy is what a backend answered to a write.
type answerBy struct {
	noted

	backend Backend
}

// of takes the answers to a write.
func (d *diff) of(seq uint64) (Difference, []answerBy) {
	diff := Difference{Seq: seq, Lane: -1, Answers: map[string]BackendAnswer{}}
	var answers []answerBy
	for _, r := range d.readers {
		e, ok := r.waiting[seq]
		switch {
		case ok:
			delete(r.waiting, seq)
			answers = append(answers, answerBy{e, r.b})
		case seq > r.b.From:
			diff.Missing = append(diff.Missing, r.b.Name)
		}
	}
	return diff, answers
}

// again puts the answers to retries in the place of those before.
func (d *diff) again(ctx context.Context, seq uint64, answers []answerBy) error {
	for i, a := range answers {
		again, ok, err := d.m.retried(ctx, a.backend.Name, seq)
		if err != nil {
			return fmt.Errorf("mirror: diff: %w", err)
		}
		if ok && again.generation >= a.generation { // else it was sent the write once more since
			answers[i].noted = again
		}
	}
	return nil
}

// differ tells whether one of the answers is another than the first.
func (d *diff) differ(answers []answerBy) bool {
	return slices.ContainsFunc(answers, func(a answerBy) bool {
		b := answers[0]
		switch d.f.By {
		case ByStatus:
			return a.status != b.status
		case ByBody:
			return a.status != b.status || a.hash != b.hash
		case ByClass:
		}
		return classOf(int(a.status)) != classOf(int(b.status))
	})
}

// describe adds what the write was, if it is kept.
func (d *diff) describe(ctx context.Context, diff *Difference) error {
	raw, err := d.m.rawWrite(ctx, diff.Seq)
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return bus.Wrap(bus.Unavailable, "mirror: diff: the store of writes does not answer", err)
	}
	diff.Stored = raw.Time
	if lane, err := strconv.Atoi(lastToken(raw.Subject)); err == nil {
		diff.Lane = lane
	}
	line, _ := cutLine(string(raw.Data[:min(len(raw.Data), maxLine)]))
	diff.Method, diff.Target, _ = strings.Cut(strings.TrimSuffix(line, strings.TrimSpace(protocol)), " ")
	diff.Target = strings.TrimSpace(diff.Target)
	return nil
}

const maxLine = 16 << 10 // of a request that is told
