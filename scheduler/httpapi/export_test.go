package httpapi

import (
	"slices"
	"strings"
)

// Routes are the methods and paths that are served.
func Routes() []string {
	routes := []string{"GET /ping", "POST /timer", "PUT /timer/{id}", "DELETE /timer/{id}"}
	for _, e := range (&Handler{}).endpoints() {
		routes = append(routes, e.method+" "+e.path)
	}
	slices.SortFunc(routes, strings.Compare)
	return routes
}
