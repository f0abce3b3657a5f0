package http

import (
	"maps"
	"net/http"
)

// Conflict is a pair of entries of a list that cannot both be served, the later one because of the earlier one. See [Conflicts].
type Conflict struct {
	Earlier, Later int // places in the list
	Why            error
}

// Conflicts finds the entries of a list that could not be stored beside earlier ones of it, as neither is more specific. The entries are valid ones.
func Conflicts(entries []Entry) []Conflict {
	muxes := map[string]*http.ServeMux{"": http.NewServeMux()}
	for _, e := range entries {
		if e.Listener != AllListeners && muxes[e.Listener] == nil {
			muxes[e.Listener] = http.NewServeMux()
		}
	}
	var all []Conflict
	for i, e := range entries {
		in := maps.All(muxes)
		if e.Listener != AllListeners {
			in = maps.All(map[string]*http.ServeMux{e.Listener: muxes[e.Listener]})
		}
		for _, mux := range in {
			if !fits(mux, e) {
				all = append(all, firstConflict(entries[:i], e, i)...)
				break
			}
		}
	}
	return all
}

// fits adds an entry's patterns, and tells whether there was room for all.
func fits(mux *http.ServeMux, e Entry) bool {
	for _, p := range e.patterns() {
		if err := register(mux, p, http.NotFoundHandler()); err != nil {
			return false
		}
	}
	return true
}

func firstConflict(earlier []Entry, e Entry, at int) []Conflict {
	for i, other := range earlier {
		if why := conflict(e, other); why != nil {
			return []Conflict{{Earlier: i, Later: at, Why: why}}
		}
	}
	return nil
}
