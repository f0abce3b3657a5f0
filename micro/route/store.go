package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
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
}

// StoreConfig adjusts a [Store].
type StoreConfig struct {
	Logger *slog.Logger // nil means discard
	// Bind: the bucket is not created. Where it is missing, OpenStore fails with [kv.ErrNoBucket].
	Bind bool
}

// OpenStore binds to the bucket of routes and creates it when it does not exist, unless cfg.Bind.
func OpenStore(ctx context.Context, conn *bus.Conn, cfg StoreConfig) (*Store, error) {
	table, err := kv.Open[value](ctx, conn, Bucket, kv.Config{Bind: cfg.Bind, History: historyKept, Logger: cfg.Logger, Description: "skybus: routes"})
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	return &Store{table: table, ns: conn.Namespace()}, nil
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
// that revision, else the error has the code aborted.
func (s *Store) Put(ctx context.Context, name string, r Route, revision uint64) (uint64, error) {
	key, err := s.key(name)
	if err != nil {
		return 0, err
	}
	if err := r.Validate(); err != nil {
		return 0, bus.Errorf(bus.InvalidArgument, "route %q: %w", name, err)
	}
	var rev uint64
	if revision == 0 {
		rev, err = s.table.Put(ctx, key, value{r})
	} else {
		rev, err = s.table.Update(ctx, key, value{r}, revision)
	}
	if err != nil {
		return 0, storeError("put", name, err)
	}
	return rev, nil
}

// Create stores a route where there is none. One that exists stays as it is, and the error has the code already_exists.
// Programs that bring a route along use this, so that they never undo an edit.
func (s *Store) Create(ctx context.Context, name string, r Route) (uint64, error) {
	key, err := s.key(name)
	if err != nil {
		return 0, err
	}
	if err := r.Validate(); err != nil {
		return 0, bus.Errorf(bus.InvalidArgument, "route %q: %w", name, err)
	}
	rev, err := s.table.Create(ctx, key, value{r})
	if err != nil {
		return 0, storeError("create", name, err)
	}
	return rev, nil
}

// Delete removes a route; its history stays. A missing one is an error with the code not_found.
func (s *Store) Delete(ctx context.Context, name string) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	e, err := s.table.Get(ctx, key)
	if err != nil && e.Err == nil { // what cannot be read can be deleted
		return storeError("delete", name, err)
	}
	if err := s.table.Delete(ctx, key, kv.IfRevision(e.Revision)); err != nil {
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
		return bus.Wrap(bus.ResourceExhausted, text+": the bucket is full", err).With("route", name)
	}
	return fmt.Errorf("%s: %w", text, err)
}

// Unserved says, a sentence each, which steps of r nobody serves now. Such a route can be stored: its services may come.
func Unserved(r Route, reg *registry.Registry) []string {
	var missing []string
	for i, step := range r.Steps {
		service := reg.Service(step.Service)
		switch {
		case service == nil || len(service.Online) == 0:
			missing = append(missing, fmt.Sprintf("steps[%d]: no instance of service %q is online", i, step.Service))
		case !servedBy(service, step):
			missing = append(missing, fmt.Sprintf("steps[%d]: no online instance serves %s%s", i, step.Target(), inVersion(step.Version)))
		}
	}
	return missing
}

func servedBy(service *registry.Service, step Step) bool {
	for _, i := range service.Online {
		if _, ok := i.Endpoint(step.Endpoint); ok && (step.Version == "" || step.Version == i.Version) {
			return true
		}
	}
	return false
}

func inVersion(v string) string {
	if v == "" {
		return ""
	}
	return " in version " + v
}
