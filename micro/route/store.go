package route

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
)

// Bucket is where routes are kept.
const Bucket = "skybus_routes"

const historyKept = 64

// Stored is a route as it is stored.
type Stored struct {
	Name     string
	Route    Route
	Revision uint64
	Updated  time.Time
	// Deleted: this revision removed the route.
	Deleted bool
	// Err says why a stored value is no route; Route is zero then.
	Err error
}

// value is a route as the bucket holds it. Anybody may write there, so what is no valid route does not decode.
type value struct{ Route }

// UnmarshalJSON reads a route and validates it. Fields it does not know are those of a newer version.
func (v *value) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &v.Route); err != nil {
		return err
	}
	return v.Validate()
}

// Store is the routes of one namespace. It is safe for concurrent use.
type Store struct {
	table *kv.Table[value]
	ns    bus.Namespace
	log   *slog.Logger
}

// StoreConfig adjusts a [Store].
type StoreConfig struct {
	Logger *slog.Logger // nil means discard
	// Bind: the bucket is not created. Where it is missing, OpenStore fails with [kv.ErrNoBucket].
	Bind bool
}

// OpenStore binds to the bucket of routes and creates it when it does not exist, unless cfg.Bind.
func OpenStore(ctx context.Context, conn *bus.Conn, cfg StoreConfig) (*Store, error) {
	table, err := kv.Open[value](ctx, conn, Bucket, kv.Config{Bind: cfg.Bind, History: historyKept, NoExpiry: true, Logger: cfg.Logger, Description: "skybus: routes"})
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{table: table, ns: conn.Namespace(), log: log.With("component", "route")}, nil
}

func (s *Store) key(name string) (string, error) {
	if err := bus.CheckToken("route", name); err != nil {
		return "", err
	}
	return s.ns.Key("chain", name), nil
}

func stored(e kv.Entry[value]) Stored {
	return Stored{
		Name:     e.Key[strings.LastIndexByte(e.Key, '.')+1:],
		Route:    e.Value.Route,
		Revision: e.Revision,
		Updated:  e.Created,
		Deleted:  e.Deleted,
		Err:      e.Err,
	}
}

// Get reads one route. A missing one is an error with the code not_found; one that is no route comes with an error that has
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

// Put validates and stores a route and returns its revision. Revision 0 replaces whatever is there; another one only
// that revision, else the error has the code aborted. A route that would lead back to itself, that nests deeper than
// [MaxDepth], or that names a route that does not exist is refused with the code failed_precondition; the last is what [Force]
// allows. A ctx without a deadline is given 10 s: without a quorum of its servers JetStream stores nothing, which is the code
// unavailable.
func (s *Store) Put(ctx context.Context, name string, r Route, revision uint64, opts ...WriteOption) (uint64, error) {
	return s.write(ctx, "put", name, r, opts, func(ctx context.Context, key string) (uint64, error) {
		if revision == 0 {
			return s.table.Put(ctx, key, value{r})
		}
		return s.table.Update(ctx, key, value{r}, revision)
	})
}

// Create stores a route where there is none. One that exists stays as it is, and the error has the code already_exists; the
// others are those of [Store.Put].
func (s *Store) Create(ctx context.Context, name string, r Route, opts ...WriteOption) (uint64, error) {
	return s.write(ctx, "create", name, r, opts, func(ctx context.Context, key string) (uint64, error) {
		return s.table.Create(ctx, key, value{r})
	})
}

// Ensure stores a route where there is none, and tells whether it did. Programs that bring a route along use this: what is
// there stays as it is, however old the program; where that is something else, the log says so. A route that somebody removed
// is stored again.
func (s *Store) Ensure(ctx context.Context, name string, r Route, opts ...WriteOption) (created bool, err error) {
	if _, err = s.Create(ctx, name, r, opts...); err == nil {
		return true, nil
	}
	if bus.CodeOf(err) != bus.AlreadyExists {
		return false, err
	}
	switch there, err := s.Get(ctx, name); {
	case err != nil && there.Err == nil:
		s.log.WarnContext(ctx, "route is kept, and cannot be read now", "route", name, "error", err)
	case there.Err != nil || !there.Route.Equal(r):
		s.log.InfoContext(ctx, "route is not the one this program brings; it is kept as it is", "route", name, "revision", there.Revision)
	}
	return false, nil
}

// Rollback stores an older revision of a route as a new one, and returns that. It is done over what it found, so an edit made
// meanwhile is an error with the code aborted. to is as in [Store.At].
func (s *Store) Rollback(ctx context.Context, name string, to uint64, opts ...WriteOption) (uint64, error) {
	old, now, err := s.at(ctx, name, to)
	if err != nil {
		return 0, err
	}
	return s.write(ctx, "rollback", name, old.Route, opts, func(ctx context.Context, key string) (uint64, error) {
		return s.table.Update(ctx, key, value{old.Route}, now.Revision)
	})
}

// At is a route as it was at a revision that is kept; 0 means the last route before the present one, or, of one that was
// removed, the last there was. It is an error with the code not_found when there is none, failed_precondition when it is the
// present one or a removal, and data_loss when what was stored then cannot be read.
func (s *Store) At(ctx context.Context, name string, revision uint64) (Stored, error) {
	old, _, err := s.at(ctx, name, revision)
	return old, err
}

func (s *Store) at(ctx context.Context, name string, revision uint64) (old, now Stored, err error) {
	var kept []Stored
	for e, err := range s.History(ctx, name) {
		if err != nil {
			return old, now, err
		}
		kept = append(kept, e)
	}
	if len(kept) == 0 {
		return old, now, bus.Errorf(bus.NotFound, "there is no route %q", name).With("route", name)
	}
	now = kept[len(kept)-1]
	found := -1
	for i, e := range kept {
		if e.Revision == revision || revision == 0 && i < len(kept)-1 && !e.Deleted && e.Err == nil {
			found = i
		}
	}
	what := fmt.Sprintf("revision %d of route %q", revision, name)
	switch {
	case found < 0 && revision == 0:
		return old, now, bus.Errorf(bus.NotFound, "route %q has no earlier revision", name).With("route", name).With("revision", "0")
	case found < 0:
		return old, now, bus.Errorf(bus.NotFound, "%s is not kept", what).With("route", name).With("revision", strconv.FormatUint(revision, 10))
	}
	switch old = kept[found]; {
	case old.Deleted:
		return old, now, bus.Errorf(bus.FailedPrecondition, "%s removed it", what).With("route", name)
	case old.Err != nil:
		return old, now, unreadable(name, old.Err)
	case old.Revision == now.Revision:
		return old, now, bus.Errorf(bus.FailedPrecondition, "%s is what is there now", what).With("route", name)
	}
	return old, now, nil
}

// Check tells whether [Store.Put] would take r, and writes nothing.
func (s *Store) Check(ctx context.Context, name string, r Route, opts ...WriteOption) error {
	if err := bus.CheckToken("route", name); err != nil {
		return err
	}
	if err := r.Validate(); err != nil {
		return bus.Errorf(bus.InvalidArgument, "route %q: %w", name, err)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.checkNesting(ctx, name, r, optionsOf(opts))
}

func (s *Store) write(ctx context.Context, op, name string, r Route, opts []WriteOption,
	write func(ctx context.Context, key string) (uint64, error),
) (uint64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := s.Check(ctx, name, r, opts...); err != nil {
		return 0, err
	}
	rev, err := write(ctx, s.ns.Key("chain", name))
	if err != nil {
		return 0, storeError(op, name, err)
	}
	return rev, nil
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, micro.DefaultCallTimeout)
}

// Delete removes a route; its history stays. A missing one is an error with the code not_found; one that others have as a step
// is one with failed_precondition that names them, unless [Force]. [IfRevision] removes one revision only.
func (s *Store) Delete(ctx context.Context, name string, opts ...WriteOption) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	e, err := s.table.Get(ctx, key)
	if err != nil && e.Err == nil { // what cannot be read can be deleted
		return storeError("delete", name, err)
	}
	o := optionsOf(opts)
	if !o.force {
		if err := s.checkUnused(ctx, name); err != nil {
			return err
		}
	}
	if err := s.table.Delete(ctx, key, kv.IfRevision(cmp.Or(o.revision, e.Revision))); err != nil {
		return storeError("delete", name, err)
	}
	return nil
}

// List is the routes of the namespace by name.
func (s *Store) List(ctx context.Context) iter.Seq2[Stored, error] {
	return each(s.table.List(ctx, s.ns.Key("chain", "*")), "list", "*")
}

// History is the kept revisions of a route, oldest first, at most 64.
func (s *Store) History(ctx context.Context, name string) iter.Seq2[Stored, error] {
	key, err := s.key(name)
	if err != nil {
		return func(yield func(Stored, error) bool) { yield(Stored{}, err) }
	}
	return each(s.table.History(ctx, key), "history", name)
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

func unreadable(name string, err error) error {
	return bus.Wrap(bus.DataLoss, fmt.Sprintf("what is stored as route %q is none: %v", name, err), err).With("route", name)
}

func storeError(op, name string, err error) error {
	text := fmt.Sprintf("route: %s %q", op, name)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return bus.Wrap(bus.NotFound, fmt.Sprintf("there is no route %q", name), err).With("route", name)
	case errors.Is(err, kv.ErrExists):
		return bus.Wrap(bus.AlreadyExists, fmt.Sprintf("there is a route %q already", name), err).With("route", name)
	case errors.Is(err, kv.ErrConflict):
		return bus.Wrap(bus.Aborted, text+": somebody else changed it meanwhile; read it again", err).With("route", name)
	case errors.Is(err, kv.ErrFull):
		cause := err
		if ke, ok := errors.AsType[*kv.KeyError](err); ok {
			cause = ke.Err // the rest of it is said by text
		}
		e := bus.Wrap(bus.ResourceExhausted, text+": "+cause.Error(), err).With("route", name)
		e.Status = http.StatusInsufficientStorage
		return e
	case errors.Is(err, context.DeadlineExceeded) && noLeader(err):
		return bus.Wrap(bus.Unavailable, text+": nothing can be stored now: the bucket has no leader, as when too few of its servers run (no quorum)", err).
			With("route", name)
	case errors.Is(err, context.DeadlineExceeded):
		return bus.Wrap(bus.DeadlineExceeded, text+": JetStream did not answer in time; the bucket may have no leader (no quorum)", err).
			With("route", name)
	}
	return fmt.Errorf("%s: %w", text, err)
}

// noLeader tells whether err says that nobody took a write.
func noLeader(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || jscode.Of(err) == jscode.NoLeader
}
