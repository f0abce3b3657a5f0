package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	historyKept  = 64
	writeTimeout = 10 * time.Second
	entryKind    = "http" // the token of its keys in the bucket of routes
)

// Stored is an entry as it is stored.
type Stored struct {
	Name     string
	Entry    Entry
	Revision uint64
	Updated  time.Time
	// Deleted: this revision removed the entry.
	Deleted bool
	// Err says why a stored value is no entry; Entry is zero then.
	Err error
}

// value is an entry as the bucket holds it. Anybody may write there, so what is no valid entry does not decode.
type value struct{ Entry }

// UnmarshalJSON reads an entry and validates it. Fields it does not know are those of a newer version.
func (v *value) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &v.Entry); err != nil {
		return err
	}
	return v.Validate()
}

// ParseJSON reads an entry strictly: unknown fields and text after the entry are errors. It is not validated.
func ParseJSON(data []byte) (Entry, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
			return Entry{}, &FieldError{strings.TrimPrefix(te.Field, "Spec."), fmt.Errorf("want %s, not %s", te.Type, te.Value)}
		}
		return Entry{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Entry{}, errors.New("there is text after the entry")
	}
	return e, nil
}

// Store is the entries of one namespace. It is safe for concurrent use.
type Store struct {
	table *kv.Table[value]
	conn  *bus.Conn
	ns    bus.Namespace
}

// OpenStore binds to the bucket of routes, where entries are too, and creates it when it does not exist, unless bind: then the error
// is [kv.ErrNoBucket].
func OpenStore(ctx context.Context, conn *bus.Conn, bind bool) (*Store, error) {
	table, err := kv.Open[value](ctx, conn, route.Bucket, kv.Config{
		Bind: bind, History: historyKept, NoExpiry: true, Logger: conn.Logger(), Description: "skybus: routes",
	})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if !bind { // for gateways that may not make it
		if _, err := openReports(ctx, conn, false); err != nil && bus.CodeOf(err) != bus.PermissionDenied {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	return &Store{table, conn, conn.Namespace()}, nil
}

func (s *Store) key(name string) (string, error) {
	if err := bus.CheckToken("entry", name); err != nil {
		return "", err
	}
	return s.ns.Key(entryKind, name), nil
}

func stored(e kv.Entry[value]) Stored {
	return Stored{e.Key[strings.LastIndexByte(e.Key, '.')+1:], e.Value.Entry, e.Revision, e.Created, e.Deleted, e.Err}
}

// Get reads one entry. A missing one is an error with the code not_found; one that is no entry comes with an error that has
// the code data_loss, and Err set.
func (s *Store) Get(ctx context.Context, name string) (Stored, error) {
	key, err := s.key(name)
	if err != nil {
		return Stored{}, err
	}
	e, err := s.table.Get(ctx, key)
	switch {
	case e.Err != nil:
		return stored(e), unreadable(name, e.Err)
	case err != nil:
		return Stored{}, storeError("get", name, err)
	}
	return stored(e), nil
}

// Put validates and stores an entry and returns its revision. Revision 0 replaces whatever is there; another one only
// that revision, else the error has the code aborted. An entry that conflicts with another one is refused with the code
// failed_precondition, which names both; where the other one was stored at the same time, the younger of the two is taken back and
// refused so. Where the answers of an entry are kept is made too, for gateways whose role makes nothing. A ctx without a deadline is given 10 s.
func (s *Store) Put(ctx context.Context, name string, e Entry, revision uint64) (uint64, error) {
	return s.write(ctx, "put", name, e, func(ctx context.Context, key string) (uint64, error) {
		if revision == 0 {
			return s.table.Put(ctx, key, value{e})
		}
		return s.table.Update(ctx, key, value{e}, revision)
	})
}

// Create stores an entry where there is none. One that exists stays as it is, and the error has the code already_exists; the
// others are those of [Store.Put].
func (s *Store) Create(ctx context.Context, name string, e Entry) (uint64, error) {
	return s.write(ctx, "create", name, e, func(ctx context.Context, key string) (uint64, error) {
		return s.table.Create(ctx, key, value{e})
	})
}

// Check tells whether [Store.Put] would take e, and writes nothing. Entries named in without are taken for removed.
func (s *Store) Check(ctx context.Context, name string, e Entry, without ...string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := s.check(ctx, name, e, without)
	return err
}

// check returns what is stored as that name, if anything.
func (s *Store) check(ctx context.Context, name string, e Entry, without []string) (before Stored, err error) {
	if err := bus.CheckToken("entry", name); err != nil {
		return before, err
	}
	if err := checked(name, e); err != nil {
		return before, err
	}
	for other, err := range s.List(ctx) {
		switch {
		case err != nil:
			return before, err
		case other.Name == name:
			before = other
		case other.Err == nil && !slices.Contains(without, other.Name):
			if err := conflict(e, other.Entry); err != nil {
				return before, conflicting(name, other.Name, err)
			}
		}
	}
	return before, nil
}

// checked is Validate as an error of a store.
func checked(name string, e Entry) error {
	err := e.Validate()
	if err == nil {
		return nil
	}
	out := bus.Errorf(bus.InvalidArgument, "entry %q: %w", name, err).With("entry", name)
	if fe, ok := errors.AsType[*FieldError](err); ok {
		out = out.With("field", fe.Field)
	}
	return out
}

func conflicting(name, other string, err error) error {
	return bus.Errorf(bus.FailedPrecondition, "entry %q conflicts with entry %q: %w", name, other, err).With("entry", name).With("conflict", other)
}

func (s *Store) write(ctx context.Context, op, name string, e Entry, write func(ctx context.Context, key string) (uint64, error)) (uint64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	before, err := s.check(ctx, name, e, nil)
	if err != nil {
		return 0, err
	}
	if err := prepare(ctx, s.conn, e); err != nil {
		return 0, storeError(op, name, err)
	}
	key := s.ns.Key(entryKind, name)
	revision, err := write(ctx, key)
	if err != nil {
		return 0, storeError(op, name, err)
	}
	return revision, s.checkAfter(ctx, name, e, before, revision)
}

// checkAfter looks for entries that were stored since the check before the write. Of two that conflict the older one stays; gateways go by the
// same rule meanwhile, so it is never out of service.
func (s *Store) checkAfter(ctx context.Context, name string, e Entry, before Stored, revision uint64) error {
	for other, err := range s.List(ctx) {
		if err != nil {
			return storeError("check", name, err)
		}
		if other.Name == name || other.Err != nil || other.Revision > revision {
			continue
		}
		clash := conflict(e, other.Entry)
		if clash == nil {
			continue
		}
		key := s.ns.Key(entryKind, name)
		if before.Revision > 0 && before.Err == nil {
			_, err = s.table.Update(ctx, key, value{before.Entry}, revision)
		} else {
			err = s.table.Delete(ctx, key, kv.IfRevision(revision))
		}
		if err != nil && !errors.Is(err, kv.ErrConflict) {
			return storeError("take back", name, err)
		}
		return conflicting(name, other.Name, clash)
	}
	return nil
}

// Delete removes an entry and returns the revision that did so; its history stays. A missing one is an error with the code not_found. Revision 0 removes
// whatever is there; another one only that revision, else the error has the code aborted.
func (s *Store) Delete(ctx context.Context, name string, revision uint64) (uint64, error) {
	key, err := s.key(name)
	if err != nil {
		return 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	e, err := s.table.Get(ctx, key)
	if err != nil && e.Err == nil { // what cannot be read can be deleted
		return 0, storeError("delete", name, err)
	}
	if revision == 0 {
		revision = e.Revision
	}
	if err := s.table.Delete(ctx, key, kv.IfRevision(revision)); err != nil {
		return 0, storeError("delete", name, err)
	}
	for h, err := range s.History(ctx, name) {
		if err != nil {
			return 0, err
		}
		revision = h.Revision
	}
	return revision, nil
}

// List is the entries of the namespace by name.
func (s *Store) List(ctx context.Context) iter.Seq2[Stored, error] {
	return each(s.table.List(ctx, s.ns.Key(entryKind, "*")), "list", "*")
}

// History is the kept revisions of an entry, oldest first, at most 64.
func (s *Store) History(ctx context.Context, name string) iter.Seq2[Stored, error] {
	key, err := s.key(name)
	if err != nil {
		return func(yield func(Stored, error) bool) { yield(Stored{}, err) }
	}
	return each(s.table.History(ctx, key), "history", name)
}

// At is an entry as it was at a revision that is kept. It is an error with the code not_found when there is none, failed_precondition
// when it is a removal, and data_loss when what was stored then cannot be read.
func (s *Store) At(ctx context.Context, name string, revision uint64) (Stored, error) {
	for e, err := range s.History(ctx, name) {
		switch {
		case err != nil:
			return Stored{}, err
		case e.Revision != revision:
		case e.Deleted:
			return Stored{}, bus.Errorf(bus.FailedPrecondition, "revision %d of entry %q removed it", revision, name).With("entry", name)
		case e.Err != nil:
			return e, unreadable(name, e.Err)
		default:
			return e, nil
		}
	}
	return Stored{}, bus.Errorf(bus.NotFound, "revision %d of entry %q is not kept", revision, name).
		With("entry", name).With("revision", strconv.FormatUint(revision, 10))
}

func each(entries iter.Seq2[kv.Entry[value], error], op, name string) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		for e, err := range entries {
			if err != nil {
				yield(Stored{}, storeError(op, name, err))
				return
			}
			if !yield(stored(e), nil) {
				return
			}
		}
	}
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, writeTimeout)
}

func unreadable(name string, err error) error {
	return bus.Wrap(bus.DataLoss, fmt.Sprintf("what is stored as entry %q is none: %v", name, err), err).With("entry", name)
}

func storeError(op, name string, err error) error {
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return bus.Wrap(bus.NotFound, fmt.Sprintf("there is no entry %q", name), err).With("entry", name)
	case errors.Is(err, kv.ErrExists):
		return bus.Wrap(bus.AlreadyExists, fmt.Sprintf("there is an entry %q already", name), err).With("entry", name)
	case errors.Is(err, kv.ErrConflict):
		return bus.Wrap(bus.Aborted, fmt.Sprintf("gateway: %s %q: somebody else changed it meanwhile; read it again", op, name), err).With("entry", name)
	}
	return fmt.Errorf("gateway: %s %q: %w", op, name, err)
}
