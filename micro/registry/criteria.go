package registry

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Criteria choose instances. The values of one list are alternatives, and all lists have to be met; an empty list is met
// by every instance, so the zero Criteria choose all.
type Criteria struct {
	Services   []ServiceCriterion
	Regions    []string
	Hosts      []string
	Instances  []string
	Registered *bool // nil means both
}

// ServiceCriterion is a service, in one version or in any.
type ServiceCriterion struct {
	Name    string
	Version string // empty means any
}

// ParseServiceCriterion reads "name" or "name:version".
func ParseServiceCriterion(s string) (ServiceCriterion, error) {
	name, version, versioned := strings.Cut(s, ":")
	if err := bus.CheckToken("service", name); err != nil {
		return ServiceCriterion{}, err
	}
	if versioned {
		if err := bus.CheckVersion(version); err != nil {
			return ServiceCriterion{}, err
		}
	}
	return ServiceCriterion{name, version}, nil
}

// String is the criterion as [ParseServiceCriterion] reads it.
func (c ServiceCriterion) String() string {
	if c.Version == "" {
		return c.Name
	}
	return c.Name + ":" + c.Version
}

// UnmarshalText reads the criterion as [ParseServiceCriterion] does.
func (c *ServiceCriterion) UnmarshalText(text []byte) (err error) {
	*c, err = ParseServiceCriterion(string(text))
	return err
}

// Match tells whether c chooses i.
func (c Criteria) Match(i *Instance) bool {
	return (len(c.Services) == 0 || slices.ContainsFunc(c.Services, func(s ServiceCriterion) bool {
		return s.Name == i.Service && (s.Version == "" || s.Version == i.Version)
	})) &&
		oneOf(c.Regions, i.Region) && oneOf(c.Hosts, i.Host) && oneOf(c.Instances, i.Instance) &&
		(c.Registered == nil || *c.Registered == i.Registered)
}

func oneOf(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }

// Instances are the instances that c chooses, online and not, by service and id. They are shared and must not be changed.
func (r *Registry) Instances(c Criteria) []*Instance {
	var chosen []*Instance
	for _, s := range r.Services() {
		for _, list := range [...][]*Instance{s.Online, s.Rest} {
			for _, i := range list {
				if c.Match(i) {
					chosen = append(chosen, i)
				}
			}
		}
	}
	slices.SortFunc(chosen, func(a, b *Instance) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), byID(a, b))
	})
	return chosen
}

// ServiceNames are the services of the instances that c chooses, each once and sorted.
func (r *Registry) ServiceNames(c Criteria) []string {
	return r.distinct(c, func(i *Instance) string { return i.Service })
}

// Versions are the versions of the instances that c chooses, each once and sorted.
func (r *Registry) Versions(c Criteria) []string {
	return r.distinct(c, func(i *Instance) string { return i.Version })
}

// Regions are the regions of the instances that c chooses, each once and sorted; who tells none is left out.
func (r *Registry) Regions(c Criteria) []string {
	return r.distinct(c, func(i *Instance) string { return i.Region })
}

// Hosts are the hosts of the instances that c chooses, each once and sorted; who tells none is left out.
func (r *Registry) Hosts(c Criteria) []string {
	return r.distinct(c, func(i *Instance) string { return i.Host })
}

func (r *Registry) distinct(c Criteria, of func(*Instance) string) []string {
	set := map[string]struct{}{}
	for _, i := range r.Instances(c) {
		if v := of(i); v != "" {
			set[v] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}
