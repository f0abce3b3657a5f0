// Package balance chooses which instance of a service a call goes to.
//
// A [Policy] is asked with the instances that may be called, which are those the registry has online in this moment and the
// call allows (its version, its region), and answers one of them. It does no I/O and waits for nothing, so that choosing costs
// nanoseconds; and it is the caller's own: nothing is agreed with other callers, though [ModHash] and [ConsistentHash] give
// the same answer everywhere. A call without a policy goes to the queue group, and the server chooses.
//
//   - [RoundRobin]: each in its turn.
//   - [Random]: anyone.
//   - [BestQuality]: who answers quickly and has little to do.
//   - [ModHash], [ConsistentHash]: the same key to the same instance.
//   - [Nearest]: those on the caller's host, or else in its region; another policy chooses among them.
//   - [Canary]: a version by weight; another policy chooses among its instances.
//   - [Func]: one's own.
package balance

import (
	"math/rand/v2"
	"time"

	"github.com/skybus-io/skybus/micro/registry"
)

// Policy chooses an instance for a call. It must be safe for concurrent use. A Policy may serve calls to several services.
type Policy interface {
	// Pick is one of instances: they are online, serve the endpoint, are sorted by id and at least one. Neither the slice
	// nor what it points to may be changed, and the slice must not be kept.
	Pick(instances []*registry.Instance, call Call) *registry.Instance
}

// Observer is a [Policy] that learns from calls.
type Observer interface {
	Policy
	// Observe is told of an attempt to call i when it begins, and by done, called exactly once, when it ended: how long
	// it took, and an error if i failed. An error that is a proper answer, such as that something was not found, is none
	// here; nor is it one that the caller gave up. An attempt that is dropped because another was quicker still ends.
	Observe(i *registry.Instance, call Call) (done func(took time.Duration, err error))
}

// Call is what a policy may know of a call. What is not known is empty.
type Call struct {
	Endpoint string
	Key      string // what the call is about, for policies that keep a key on its instance
	Attempt  int    // 1 at first
	Region   string // of the caller
	Host     string // of the caller
}

// Func is a [Policy] that is a function.
type Func func(instances []*registry.Instance, call Call) *registry.Instance

// Pick calls f.
func (f Func) Pick(instances []*registry.Instance, call Call) *registry.Instance {
	return f(instances, call)
}

var _ Policy = Func(nil)

// Observe tells p of an attempt, as [Observer] says, if p is one; done is never nil.
func Observe(p Policy, i *registry.Instance, call Call) (done func(took time.Duration, err error)) {
	if o, ok := p.(Observer); ok {
		return o.Observe(i, call)
	}
	return func(time.Duration, error) {}
}

// Random picks any instance, each as often as the others.
func Random() Policy {
	return Func(func(instances []*registry.Instance, _ Call) *registry.Instance {
		return instances[rand.IntN(len(instances))]
	})
}
