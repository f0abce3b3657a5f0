package adminapi

import "slices"

// Routes are the methods and paths that are served.
func Routes() []string {
	var routes []string
	h := &Handler{}
	for _, e := range append(h.endpoints(), h.spawnEndpoints()...) {
		routes = append(routes, e.method+" "+e.path)
	}
	slices.Sort(routes)
	return routes
}
