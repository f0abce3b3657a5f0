package scheduler

import (
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// zones keeps time zones that were loaded: to load one takes a file. Nil works, and keeps none.
type zones struct {
	byName sync.Map // of *time.Location
}

// load is the zone of that IANA name; empty means UTC. Names that mean one zone here and another one, or none, elsewhere
// are refused: Local, and those of files beside the zones, which begin with a small letter.
func (z *zones) load(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	if z != nil {
		if loc, ok := z.byName.Load(name); ok {
			return loc.(*time.Location), nil
		}
	}
	if name == "Local" || len(name) > maxZone || strings.ToUpper(name[:1]) != name[:1] {
		return nil, bus.Errorf(bus.InvalidArgument, "%q is no IANA time zone, such as Europe/Berlin", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "%q is no IANA time zone that this machine knows (a program can bring them along: import _ %q)", name, "time/tzdata")
	}
	if z != nil {
		z.byName.Store(name, loc)
	}
	return loc, nil
}

const maxZone = 64 // characters
