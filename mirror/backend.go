package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Backend is one of the applications behind a mirror.
type Backend struct {
	// Name is a token, unique within the mirror.
	Name string `json:"name"`
	// URL is the scheme, http or https, the host and the port, and nothing else.
	URL string `json:"url"`
	// Priority orders reads: 1, 2, 3, ..., 0, ..., -1, -2.
	Priority int `json:"priority"`
	// Active backends get writes and reads. Of one that is not, what waits is dropped, and nothing is kept for it.
	Active bool `json:"active"`
	// Maintenance: it is sent neither writes nor reads, but the writes are kept until it is over.
	Maintenance bool `json:"maintenance"`

	// From is the write after which those of this backend begin, and Generation what tells its progress since then from that before. Set decides them.
	From       uint64 `json:"from"`
	Generation int64  `json:"generation"`
}

// MaxBackends of one mirror.
const MaxBackends = 64

// NameFor is the name of a backend that is known by its host and port, as Spawn's are. Of one too long for a name it has the beginning, and a hash of it all.
func NameFor(host string, port int) string {
	name := strings.NewReplacer(".", "-", ":", "-").Replace(host) + "-" + strconv.Itoa(port)
	if len(name) <= maxName {
		return name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // it never fails
	return fmt.Sprintf("%s-%08x", name[:maxName-9], h.Sum32())
}

// maxName is how long a token may be.
const maxName = 64

// HostPort is the host of the URL and its port, 80 or 443 where it has none.
func (b Backend) HostPort() (host string, port int) {
	u, err := url.Parse(b.URL)
	if err != nil {
		return "", 0
	}
	port, _ = strconv.Atoi(u.Port()) // checked when it was set
	if port == 0 {
		port = map[string]int{"https": 443}[u.Scheme]
		port = orDefault(port, 80)
	}
	return u.Hostname(), port
}

func (b Backend) check() error {
	fail := func(field, format string, args ...any) error {
		return bus.Errorf(bus.InvalidArgument, "mirror: backend: "+field+": "+format, args...).With("field", field)
	}
	if err := bus.CheckToken("name", b.Name); err != nil {
		return bus.AsError(err).With("field", "name")
	}
	if b.Name == settingsName {
		return fail("name", "%q is taken", b.Name)
	}
	u, err := url.Parse(b.URL)
	switch {
	case err != nil || len(b.URL) > 300:
		return fail("url", "%.300q is none", b.URL)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fail("url", "%q: want http://host:port or https://host:port", b.URL)
	case u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return fail("url", "want the scheme, the host and the port alone")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fail("url", "%q: the port must be 1 to 65535", b.URL)
		}
	}
	return nil
}

// SetOption adjusts [Mirror.Set].
type SetOption func(*setOptions)

type setOptions struct {
	from    uint64
	hasFrom bool
}

// From makes the writes of a backend begin with seq, also if it is there already; those before are not sent to it. A new backend's begin with the next
// one otherwise.
func From(seq uint64) SetOption {
	return func(o *setOptions) { o.from, o.hasFrom = seq, true }
}

// Set adds a backend, or changes the one of the same name, and returns what is stored. From and Generation of b are not obeyed: see [From].
// What waits for a backend is dropped when it stops being active; from then on, as for a new one, its writes begin with the next. When a
// backend is to begin with a copy of another's data, take what that one has applied ([Condition].Applied) first, then the copy, and add it with From(seq+1).
//
// The error is invalid_argument, failed_precondition where From lies before the first write that is kept or the mirror was removed, or why ctx ended. Two who set the same backend at once
// do so one after the other.
func (m *Mirror) Set(ctx context.Context, b Backend, opts ...SetOption) (Backend, error) {
	var o setOptions
	for _, opt := range opts {
		opt(&o)
	}
	b.URL = strings.TrimSuffix(b.URL, "/")
	if err := b.check(); err != nil {
		return Backend{}, err
	}
	if m.isRemoved() {
		return Backend{}, bus.Errorf(bus.FailedPrecondition, "mirror: %q was removed: start this process again to make it anew", m.cfg.Name)
	}
	key := m.space.key(b.Name)
	for {
		entry, err := m.backends.Get(ctx, key)
		old, known := entry.Value, err == nil
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return Backend{}, fmt.Errorf("mirror: backend %q: %w", b.Name, err)
		}
		if !known && len(*m.nodes.Load()) >= MaxBackends {
			return Backend{}, bus.Errorf(bus.ResourceExhausted, "mirror: there are %d backends, more are not taken", MaxBackends)
		}
		if err := m.checkAddress(b); err != nil && b.URL != old.URL {
			return Backend{}, err
		}
		b.From, b.Generation = old.From, old.Generation
		if o.hasFrom || !known || b.Active && !old.Active {
			if b.From, err = m.begin(ctx, o); err != nil {
				return Backend{}, err
			}
			if b.Generation, err = m.nextGeneration(ctx, b.Name, old.Generation); err != nil {
				return Backend{}, err
			}
		}
		if known {
			_, err = m.backends.Update(ctx, key, b, entry.Revision)
		} else {
			_, err = m.backends.Create(ctx, key, b)
		}
		switch {
		case err == nil && o.hasFrom:
			if err := m.checkKept(ctx, o.from); err != nil { // they may have been removed since begin looked
				return Backend{}, err
			}
			return b, m.seen(ctx, b)
		case err == nil:
			return b, m.seen(ctx, b)
		case !errors.Is(err, kv.ErrConflict) && !errors.Is(err, kv.ErrExists):
			return Backend{}, fmt.Errorf("mirror: backend %q: %w", b.Name, err)
		}
	}
}

// nextGeneration is one above all that a backend of the name ever had, also one that was deleted, whatever this machine's clock says.
func (m *Mirror) nextGeneration(ctx context.Context, name string, last int64) (int64, error) {
	raw, err := m.rawProgress(ctx, name)
	var p progress
	switch {
	case errors.Is(err, errNone):
	case err != nil:
		return 0, err
	case json.Unmarshal(raw.Data, &p) == nil:
		last = max(last, p.Generation)
	}
	return max(time.Now().UnixNano(), last+1), nil
}

// begin is the write after which those of a backend begin.
func (m *Mirror) begin(ctx context.Context, o setOptions) (uint64, error) {
	last, err := m.LastSeq(ctx)
	if err != nil {
		return 0, err
	}
	if !o.hasFrom {
		return last, nil
	}
	if o.from < 1 || o.from > last+1 {
		return 0, bus.Errorf(bus.InvalidArgument, "mirror: from: there is no write %d, the next is %d", o.from, last+1).With("field", "from")
	}
	return o.from - 1, m.checkKept(ctx, o.from)
}

// checkKept tells whether the writes from a sequence on are there.
func (m *Mirror) checkKept(ctx context.Context, from uint64) error {
	floor, err := m.removedUpTo(ctx)
	if err != nil {
		return err
	}
	if from <= floor {
		return bus.Errorf(bus.FailedPrecondition, "mirror: from: the writes up to %d are removed, as no active backend lacked them: begin with %d or later, on a copy of a backend's data", floor, floor+1).With("field", "from")
	}
	return nil
}

// SetAll makes bs the backends, all others are deleted. Each is set as Set does; the first error ends it.
func (m *Mirror) SetAll(ctx context.Context, bs []Backend) error {
	if len(bs) > MaxBackends {
		return bus.Errorf(bus.InvalidArgument, "mirror: %d backends, at most %d are taken", len(bs), MaxBackends)
	}
	keep := map[string]bool{}
	for _, b := range bs {
		if keep[b.Name] {
			return bus.Errorf(bus.InvalidArgument, "mirror: backend %q is there twice", b.Name).With("field", "name")
		}
		keep[b.Name] = true
		if err := b.check(); err != nil {
			return err
		}
	}
	old, err := m.Backends(ctx)
	if err != nil {
		return err
	}
	for _, b := range old { // first: a new one may have the address of one that goes
		if !keep[b.Name] {
			if err := m.Delete(ctx, b.Name); err != nil {
				return err
			}
		}
	}
	for _, b := range bs {
		if _, err := m.Set(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress refuses a second backend at an address: it would get every write twice, and in no order between the two.
func (m *Mirror) checkAddress(b Backend) error {
	host, port := b.HostPort()
	for _, n := range *m.nodes.Load() {
		if h, p := n.HostPort(); n.Name != b.Name && p == port && strings.EqualFold(h, host) {
			return bus.Errorf(bus.AlreadyExists, "mirror: backend: url: %s is the address of backend %q: delete that one first", b.URL, n.Name).With("field", "url")
		}
	}
	return nil
}

// Get reads a backend; it is not_found where there is none.
func (m *Mirror) Get(ctx context.Context, name string) (Backend, error) {
	if err := bus.CheckToken("name", name); err != nil {
		return Backend{}, err
	}
	entry, err := m.backends.Get(ctx, m.space.key(name))
	if errors.Is(err, kv.ErrNotFound) || name == settingsName {
		return Backend{}, bus.Errorf(bus.NotFound, "mirror: there is no backend %q", name)
	}
	if err != nil {
		return Backend{}, fmt.Errorf("mirror: backend %q: %w", name, err)
	}
	return entry.Value, nil
}

// Backends are all backends, in priority order.
func (m *Mirror) Backends(ctx context.Context) ([]Backend, error) {
	var all []Backend
	for entry, err := range m.backends.List(ctx, m.space.key("*")) {
		if err != nil {
			return nil, fmt.Errorf("mirror: backends: %w", err)
		}
		if lastToken(entry.Key) != settingsName && entry.Err == nil {
			all = append(all, entry.Value)
		}
	}
	slices.SortFunc(all, byPriority)
	return all, nil
}

// ByHost are the backends whose URL has the host.
func (m *Mirror) ByHost(ctx context.Context, host string) ([]Backend, error) {
	all, err := m.Backends(ctx)
	return slices.DeleteFunc(all, func(b Backend) bool { h, _ := b.HostPort(); return h != host }), err
}

// Delete removes a backend and drops what waits for it. To delete one that is not there is not_found.
func (m *Mirror) Delete(ctx context.Context, name string) error {
	if _, err := m.Get(ctx, name); err != nil {
		return err
	}
	if err := m.backends.Delete(ctx, m.space.key(name)); err != nil {
		return fmt.Errorf("mirror: backend %q: %w", name, err)
	}
	return m.gone(ctx, name)
}

// byPriority is Spawn's order: 1, 2, 3, ..., 0, ..., -1, -2.
func byPriority(a, b Backend) int {
	class := func(p int) int {
		switch {
		case p > 0:
			return 0
		case p == 0:
			return 1
		}
		return 2
	}
	if c := cmp.Compare(class(a.Priority), class(b.Priority)); c != 0 {
		return c
	}
	if a.Priority < 0 {
		a.Priority, b.Priority = -a.Priority, -b.Priority
	}
	if c := cmp.Compare(a.Priority, b.Priority); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}
