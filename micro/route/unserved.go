package route

import (
	"fmt"

	"github.com/skybus-io/skybus/micro/registry"
)

// Unserved says, a sentence each, which steps of r nobody serves now. Such a route can be stored: its services may come.
func Unserved(r Route, reg *registry.Registry) []string {
	var missing []string
	for i, step := range r.Steps {
		if step.Route != "" {
			continue
		}
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
