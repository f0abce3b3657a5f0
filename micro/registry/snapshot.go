package registry

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
)

// publishLocked builds the touched services anew and swaps the snapshot; readers never wait.
func (r *Registry) publishLocked(touched map[string]struct{}) {
	if len(touched) == 0 {
		return
	}
	next := maps.Clone(*r.snapshot.Load())
	for name := range touched {
		delete(next, name)
	}
	for key, record := range r.records {
		if _, ok := touched[record.Service]; !ok {
			continue
		}
		s := next[record.Service]
		if s == nil {
			s = &Service{Name: record.Service}
			next[record.Service] = s
		}
		s.add(r.instanceLocked(key, record))
	}
	for name := range touched {
		if s := next[name]; s != nil {
			slices.SortFunc(s.Online, byID)
			slices.SortFunc(s.Rest, byID)
		}
	}
	r.snapshot.Store(&next)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Registry) instanceLocked(key string, record Record) *Instance {
	load, alive := r.alive[key]
	i := &Instance{Record: record, State: Online, load: load}
	switch {
	case !alive:
		i.State, i.load = Offline, &atomic.Pointer[Load]{}
	case !record.Registered:
		i.State = Unregistered
	}
	return i
}

func (s *Service) add(i *Instance) {
	if i.State == Online {
		s.Online = append(s.Online, i)
		return
	}
	s.Rest = append(s.Rest, i)
	s.offline = s.offline || i.State == Offline
}

func byID(a, b *Instance) int { return cmp.Compare(a.Instance, b.Instance) }
