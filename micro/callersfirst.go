package micro

import (
	"context"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	callersFirstWait = time.Second      // for a caller to be told of
	strangerFor      = 30 * time.Second // how long a caller who was not is not waited for again
	maxStrangers     = 1024
)

// CallersFirst makes a request reach the handler only when all who watch reg have been told that the calling instance is online,
// and have dealt with that ([registry.Registry.WaitTold]): a handler that looks up what a watcher keeps of each instance finds the
// caller there. A request waits for that until its deadline and at most 1 s, then it is handled all the same; a caller who was
// waited for in vain, such as a client that is no instance, is not waited for again for 30 s. Who tells no address, or one in another
// namespace, is not waited for.
func CallersFirst(reg *registry.Registry) EndpointOption {
	return endpointOption(func(e *endpoint) { e.callers = &callersFirst{registry: reg} })
}

type callersFirst struct {
	registry *registry.Registry

	mu        sync.Mutex
	strangers map[string]time.Time // addresses of those waited for in vain, and until when that counts
}

func (c *callersFirst) wait(ctx context.Context, ns bus.Namespace, from string) {
	address, err := bus.ParseAddress(from)
	if err != nil || address.Instance == "" || address.Namespace != ns || c.stranger(from) {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, callersFirstWait)
	defer cancel()
	if c.registry.WaitTold(waiting, address.Service, address.Instance) == nil || ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strangers == nil || len(c.strangers) >= maxStrangers {
		c.strangers = map[string]time.Time{}
	}
	c.strangers[from] = time.Now().Add(strangerFor)
}

func (c *callersFirst) stranger(from string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.strangers[from]
	if ok && time.Now().After(until) {
		delete(c.strangers, from)
		return false
	}
	return ok
}
