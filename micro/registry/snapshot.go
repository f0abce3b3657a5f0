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
		if _, ok := touched[record.Service]; !ok || r.early[key] != nil {
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

// settle shows a record whose liveness did not come.
func (r *Registry) settle(key, service string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settleLocked(key) {
		r.publishLocked(map[string]struct{}{service: {}})
	}
}

// settleLocked ends the wait for a liveness and tells whether there was one.
func (r *Registry) settleLocked(key string) bool {
	timer := r.early[key]
	if timer == nil {
		return false
	}
	timer.Stop()
	delete(r.early, key)
	return true
}

func (r *Registry) instanceLocked(key string, record stored) *Instance {
	load, alive := r.alive[key]
	i := &Instance{Record: record.Record, State: Online, revision: record.revision, load: load}
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
