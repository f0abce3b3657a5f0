package http

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// serviceList is the answer of /v1/services.
type serviceList struct {
	Services []serviceInfo `json:"services"`
	// SchemasLeftOut: the answer would be too large with them.
	SchemasLeftOut bool `json:"schemas_left_out,omitempty"`
}

type serviceInfo struct {
	Service     string        `json:"service"`
	Description string        `json:"description,omitempty"`
	Online      int           `json:"online"` // instances
	Versions    []versionInfo `json:"versions"`
}

type versionInfo struct {
	Version      string         `json:"version"`
	Online       int            `json:"online"`
	Unregistered int            `json:"unregistered"`
	Offline      int            `json:"offline"`
	Endpoints    []endpointInfo `json:"endpoints"`
}

type endpointInfo struct {
	registry.Endpoint
	Call string `json:"call"` // path
}

// listServices is what can be called, or one service of that.
func (g *Gateway) listServices(x *exchange) (*rendered, error) {
	query, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "the query is malformed: %w", err)
	}
	for name, values := range query {
		if name != "service" || len(values) > 1 {
			return nil, bus.Errorf(bus.InvalidArgument, "query: want service=NAME once, or nothing")
		}
	}
	registry := g.runner.Client().Registry()
	if name := query.Get("service"); name != "" {
		info, shown := listService(registry.Service(name))
		if !shown {
			return nil, bus.Errorf(bus.NotFound, "there is no service %.80q to call from here", name)
		}
		body, err := g.encodeList([]serviceInfo{info})
		return newRendered(typeJSON, body), err
	}
	return g.services.get(registry.Changed, "", func() ([]byte, error) {
		services := registry.Services()
		list := []serviceInfo{}
		for _, name := range slices.Sorted(maps.Keys(services)) {
			if info, shown := listService(services[name]); shown {
				list = append(list, info)
			}
		}
		return g.encodeList(list)
	})
}

// encodeList is a list as JSON, without schemas where it is too large with them.
func (g *Gateway) encodeList(list []serviceInfo) ([]byte, error) {
	body, err := json.Marshal(serviceList{Services: list})
	if err == nil && len(body) > g.cfg.OpenAPI.maxBytes() {
		for _, s := range list {
			for _, v := range s.Versions {
				for i := range v.Endpoints {
					v.Endpoints[i].Request, v.Endpoints[i].Response = nil, nil
				}
			}
		}
		body, err = json.Marshal(serviceList{list, true})
	}
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "the list of services does not encode: %w", err)
	}
	return append(body, '\n'), nil
}

// listService is what outsiders are told of a service, and whether there is anything for them.
func listService(s *registry.Service) (info serviceInfo, shown bool) {
	if s == nil {
		return info, false
	}
	versions := map[string][]*registry.Instance{}
	for _, instances := range [...][]*registry.Instance{s.Online, s.Rest} {
		for _, i := range instances {
			versions[i.Version] = append(versions[i.Version], i)
		}
	}
	info = serviceInfo{Service: s.Name, Online: len(s.Online), Versions: []versionInfo{}}
	for _, version := range slices.SortedFunc(maps.Keys(versions), newerFirst) {
		v := listVersion(version, versions[version])
		shown = shown || len(v.Endpoints) > 0
		info.Versions = append(info.Versions, v)
		info.Description = cmp.Or(info.Description, versions[version][0].Description)
	}
	return info, shown
}

func listVersion(version string, instances []*registry.Instance) versionInfo {
	v := versionInfo{Version: version, Endpoints: []endpointInfo{}}
	for _, i := range instances {
		switch i.State {
		case registry.Online:
			v.Online++
		case registry.Unregistered:
			v.Unregistered++
		case registry.Offline:
			v.Offline++
		}
	}
	for _, e := range publicEndpoints(instances) {
		v.Endpoints = append(v.Endpoints, endpointInfo{e, callPath + instances[0].Service + "/" + e.Name})
	}
	return v
}

// publicEndpoints are those that are not internal.
func publicEndpoints(instances []*registry.Instance) []registry.Endpoint {
	return slices.DeleteFunc(allEndpoints(instances, ""), func(e registry.Endpoint) bool { return e.Internal })
}

// allEndpoints are what instances say together of their endpoints, by name: the online ones, or all where none is. The schemas are those of
// the newest. A version that is not empty leaves out those of others.
func allEndpoints(instances []*registry.Instance, version string) []registry.Endpoint {
	instances = slices.Clone(instances)
	slices.SortStableFunc(instances, byVersion)
	online := slices.ContainsFunc(instances, func(i *registry.Instance) bool { return i.State == registry.Online })
	all := map[string]registry.Endpoint{}
	for _, i := range instances {
		if online && i.State != registry.Online || version != "" && i.Version != version {
			continue
		}
		for _, e := range i.Endpoints {
			if newer, ok := all[e.Name]; ok {
				e = newer.Join(e)
			}
			all[e.Name] = e
		}
	}
	var endpoints []registry.Endpoint
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if bus.CheckToken("endpoint", name) == nil { // anybody can have written the record, and the name becomes part of paths
			endpoints = append(endpoints, all[name])
		}
	}
	return endpoints
}

// byVersion orders instances, those of the newest version first.
func byVersion(a, b *registry.Instance) int {
	return cmp.Or(newerFirst(a.Version, b.Version), cmp.Compare(a.Instance, b.Instance))
}
