package kv

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// List reads the current entries that match pattern (see [CheckPattern]), in the order of their keys. It reads all before
// the first is yielded; entries whose value does not decode come with Err set. An error ends the sequence.
func (t *Table[T]) List(ctx context.Context, pattern string) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		var s snapshot
		err := CheckPattern(pattern)
		if err == nil {
			err = t.b.retry(ctx, func() (err error) {
				s, err = t.b.snapshot(ctx, pattern)
				return err
			})
		}
		if err != nil {
			yield(Entry[T]{}, t.b.keyError("list", pattern, err))
			return
		}
		slices.SortFunc(s.records, func(a, b record) int {
			return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(b.seq, a.seq))
		})
		key := ""
		for _, r := range s.records {
			if r.key == key {
				continue // older
			}
			key = r.key
			if !r.deleted && !yield(decode[T](t.b.cfg.Codec, r), nil) {
				return
			}
		}
	}
}

// History reads the revisions of key that are kept, the oldest first, deletions included. A key that never was has none,
// which is no error. It reads all before the first is yielded.
func (t *Table[T]) History(ctx context.Context, key string) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		var records []record
		err := CheckKey(key)
		if err == nil {
			err = t.b.retry(ctx, func() (err error) {
				records, _, err = t.b.scan(ctx, t.b.prefix+key, 0)
				return err
			})
		}
		if err != nil {
			yield(Entry[T]{}, t.b.keyError("history of", key, err))
			return
		}
		for _, r := range records {
			if !yield(decode[T](t.b.cfg.Codec, r), nil) {
				return
			}
		}
	}
}
