package http

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// table is the entries of one moment, ready to serve. It never changes: an edit makes another one, and requests in flight stay with theirs.
type table struct {
	revision  uint64             // the last change that is in it
	byName    map[string]*served // those in service
	refused   map[string]refusal
	listeners map[string]*http.ServeMux // by name of the listener
}

// refusal is why an entry is not in service.
type refusal struct {
	revision uint64
	err      error
}

// served is an entry in service.
type served struct {
	Entry
	access

	gateway  *Gateway
	name     string
	revision uint64
	params   []string
	target   initiators.Target                          // with the request as it came, or as Spec.Request makes it
	find     func(*exchange) (initiators.Target, error) // in place of target, where the request names it
	merging  initiators.Target                          // with what else came merged in; nil where that is not the entry's
	needs    bool                                       // the target asks for values
	raw      bool                                       // bodies of any type are taken
	lenient  bool                                       // an answer that is not acceptable is better than none
	offers   []offer
	timeout  time.Duration
	longest  time.Duration
	maxBody  int64
	forward  []string    // canonical names
	header   [][2]string // to set
	metrics  *entryMetrics
	events   *eventSource // nil for an entry with answers
	async    *Async       // nil for one that is answered at once
	once     *Idempotency // nil for one without keys
}

// compile makes a table of all entries there are. What did not change since old is taken over from it.
func (g *Gateway) compile(all map[string]Stored, old *table) *table {
	refused := map[string]refusal{}
	var ready []*served
	for _, s := range byAge(all) {
		e, err := g.serve(s, old)
		if err != nil {
			refused[s.Name] = refusal{s.Revision, err}
			continue
		}
		ready = append(ready, e)
	}
	for {
		t, half := g.build(ready)
		if half == nil {
			maps.Copy(t.refused, refused)
			return t
		}
		// What a mux knows it never forgets: once more without it.
		refused[half.name] = t.refused[half.name]
		ready = slices.DeleteFunc(ready, func(e *served) bool { return e == half })
	}
}

// build puts entries, the oldest first, in service. Those that conflict with an older one are refused. It ends at one of which the muxes know some
// patterns by then, and not all.
func (g *Gateway) build(entries []*served) (t *table, half *served) {
	t = &table{byName: make(map[string]*served, len(entries)), refused: map[string]refusal{}, listeners: map[string]*http.ServeMux{}}
	names := append([]string{""}, g.cfg.Listeners...)
	for _, name := range names {
		t.listeners[name] = http.NewServeMux()
	}
	for _, e := range entries {
		known, err := t.add(e, names)
		if err == nil {
			continue
		}
		t.refused[e.name] = refusal{e.revision, err}
		if known {
			return t, e
		}
	}
	for _, name := range names {
		// It conflicts with an entry that takes all there is, as / and as /{rest...}, alone: then nothing is unmatched.
		_ = register(t.listeners[name], "/", unmatched{g, name})
	}
	return t, nil
}

// byAge is entries by revision: of two that conflict the older one is served.
func byAge(all map[string]Stored) []Stored {
	list := make([]Stored, 0, len(all))
	for _, s := range all {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Stored) int { return cmp.Compare(a.Revision, b.Revision) })
	return list
}

// serve makes an entry ready to serve.
func (g *Gateway) serve(s Stored, old *table) (*served, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	if old != nil {
		if e := old.byName[s.Name]; e != nil && e.revision == s.Revision {
			return e, nil
		}
	}
	if s.Entry.Listener != "" && s.Entry.Listener != AllListeners && !slices.Contains(g.cfg.Listeners, s.Entry.Listener) {
		return nil, bus.Errorf(bus.FailedPrecondition, "listener: this gateway has none called %q", s.Entry.Listener)
	}
	return g.newServed(s.Name, s.Revision, s.Entry)
}

func (g *Gateway) newServed(name string, revision uint64, e Entry) (*served, error) {
	out := &served{
		Entry: e, gateway: g, name: name, revision: revision, params: parameters(e.Path),
		timeout: cmp.Or(time.Duration(e.Timeout), g.cfg.Timeout), maxBody: cmp.Or(int64(e.MaxBody), g.cfg.MaxBody), metrics: g.metrics.entry(name),
	}
	out.longest = max(time.Duration(e.MaxTimeout), out.timeout)
	templates, err := parseTemplates(e.Templates)
	if err != nil {
		return nil, err
	}
	out.offers = offersOf(templates)
	if h := e.Headers; h != nil {
		for _, n := range h.Forward {
			out.forward = append(out.forward, http.CanonicalHeaderKey(n))
		}
		for _, n := range sorted(h.Set) {
			out.header = append(out.header, [2]string{http.CanonicalHeaderKey(n), h.Set[n]})
		}
	}
	if out.access, err = g.access(name, e.Access); err != nil {
		return nil, err
	}
	if err := out.setKept(); err != nil {
		return nil, err
	}
	if out.events != nil && out.events.Call == "" {
		return out, nil
	}
	return out, out.makeTargets(g.resolve)
}

// makeTargets makes what the requests are sent to.
func (e *served) makeTargets(resolve func(initiators.Spec) (initiators.Target, error)) error {
	bare := e.Spec
	bare.Request, bare.Reply = nil, nil
	if e.events != nil {
		bare.Call = e.events.Call
	}
	target, err := resolve(bare)
	if err != nil {
		return err
	}
	if e.events != nil && e.gateway.hub != nil {
		target = captureTarget{}
	}
	if e.Codec != "" {
		target = codecTarget{target, contentTypeOf(e.Codec)}
	}
	calls := bare.Call != "" || e.Route != ""
	e.needs = !calls || e.Request != nil || e.Reply != nil
	e.raw = !calls && e.Request == nil || e.Request != nil && e.Request.Body == initiators.BodyNone
	if e.target, err = initiators.Mapped(target, e.Request, e.Reply); err != nil || e.Request != nil {
		return err
	}
	e.merging, err = initiators.Mapped(target, &initiators.Mapping{Body: initiators.BodyMerge}, e.Reply)
	return err
}

func contentTypeOf(codec string) string {
	if codec == CodecMessagePack {
		return typeMessagePack
	}
	return typeJSON
}

// add puts an entry in service, or says with which other it conflicts, and whether the muxes know a part of it.
func (t *table) add(e *served, listeners []string) (known bool, err error) {
	if e.Listener != AllListeners {
		listeners = []string{e.Listener}
	}
	for _, name := range listeners {
		for _, p := range e.patterns() {
			if err := register(t.listeners[name], p, e); err != nil {
				return known, t.explain(e, err)
			}
			known = true
		}
	}
	t.byName[e.name] = e
	return true, nil
}

// explain names the entry that e conflicts with.
func (t *table) explain(e *served, err error) error {
	for _, other := range t.byName {
		if why := conflict(e.Entry, other.Entry); why != nil {
			return conflicting(e.name, other.name, why)
		}
	}
	return fmt.Errorf("path: %w", err)
}

// entryAt is the entry that a request to a listener would go to, nil for none.
func (t *table) entryAt(listener string, r *http.Request) *served {
	mux := t.listeners[listener]
	if mux == nil {
		return nil
	}
	h, _ := mux.Handler(r)
	e, _ := h.(*served)
	return e
}

// methodsAt are the methods for which there are entries where a request goes.
func (t *table) methodsAt(listener string, r *http.Request) []string {
	var allowed []string
	probe := *r
	for _, m := range methods() {
		probe.Method = m
		if t.entryAt(listener, &probe) != nil {
			allowed = append(allowed, m)
		}
	}
	return allowed
}
