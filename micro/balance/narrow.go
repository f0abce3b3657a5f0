package balance

import (
	"math"
	"sync"
	"time"

	"github.com/skybus-io/skybus/micro/registry"
)

// Nearest lets next pick among the instances on the caller's host; where there are none, among those in its region; and where
// there are none either, among all. It prefers and does not exclude: a call that must not leave its region is to be given
// only instances of it. Callers and instances that do not know their host or region are near to nobody.
//
// It observes for next, if that is an [Observer].
func Nearest(next Policy) Observer { return &nearest{narrowed{next: next}} }

type nearest struct{ narrowed }

var _ Observer = (*nearest)(nil)

func (p *nearest) Pick(instances []*registry.Instance, call Call) *registry.Instance {
	if call.Host != "" {
		if i := p.pick(instances, call, sameHost, call.Host); i != nil {
			return i
		}
	}
	if call.Region != "" {
		if i := p.pick(instances, call, sameRegion, call.Region); i != nil {
			return i
		}
	}
	return p.next.Pick(instances, call)
}

func sameHost(i *registry.Instance, host string) bool       { return i.Host == host }
func sameRegion(i *registry.Instance, region string) bool   { return i.Region == region }
func sameVersion(i *registry.Instance, version string) bool { return i.Version == version }

// Canary chooses a version by weight, of those that are there, and lets next pick among its instances. weights is asked at each
// pick, so the share of a version can be changed while calls go on; what it returned must not be changed after. A weight has
// no unit: with 95 and 5, or 19 and 1, one call of twenty goes to the second version, however many instances each has. A
// version that is not named, or whose weight is not above zero, gets no calls unless nobody else is there; nil or empty weights
// leave all to next.
//
// Calls with the same Key get the same version, in all processes with the same weights. Where the weight of a version is raised
// it takes over keys and gives none away, so what was once served by the new version stays there while its share grows.
//
// It observes for next, if that is an [Observer].
func Canary(weights func() map[string]int, next Policy) Observer {
	return &canary{narrowed{next: next}, weights}
}

type canary struct {
	narrowed

	weights func() map[string]int
}

var _ Observer = (*canary)(nil)

func (p *canary) Pick(instances []*registry.Instance, call Call) *registry.Instance {
	version, ok := chooseVersion(p.weights(), instances, call.Key)
	if ok {
		if i := p.pick(instances, call, sameVersion, version); i != nil {
			return i
		}
	}
	return p.next.Pick(instances, call)
}

// chooseVersion is rendezvous hashing with weights: the fraction u that a version draws for the key counts as -w/ln(u).
func chooseVersion(weights map[string]int, instances []*registry.Instance, key string) (version string, ok bool) {
	k := keyHash(key)
	most := 0.0
	for v, w := range weights {
		if w <= 0 {
			continue
		}
		u := (float64(mix(k^hash(v))>>11) + 0.5) / (1 << 53)
		score := -float64(w) / math.Log(u)
		if score > most && present(instances, v) {
			version, ok, most = v, true, score
		}
	}
	return version, ok
}

func present(instances []*registry.Instance, version string) bool {
	for _, i := range instances {
		if i.Version == version {
			return true
		}
	}
	return false
}

// narrowed is a policy that gives another one only some of the instances.
type narrowed struct {
	next Policy

	lists sync.Pool // of *[]*registry.Instance, for the instances that are left
}

// pick lets the next policy pick among the instances that match value, nil when there are none.
func (p *narrowed) pick(
	instances []*registry.Instance, call Call, match func(i *registry.Instance, value string) bool, value string,
) *registry.Instance {
	n := 0
	for _, i := range instances {
		if match(i, value) {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case len(instances):
		return p.next.Pick(instances, call)
	}
	list, _ := p.lists.Get().(*[]*registry.Instance)
	if list == nil {
		list = new([]*registry.Instance)
	}
	for _, i := range instances {
		if match(i, value) {
			*list = append(*list, i)
		}
	}
	picked := p.next.Pick(*list, call)
	clear(*list)
	*list = (*list)[:0]
	p.lists.Put(list)
	return picked
}

// Observe tells the next policy, if it observes.
func (p *narrowed) Observe(i *registry.Instance, call Call) (done func(took time.Duration, err error)) {
	return Observe(p.next, i, call)
}
