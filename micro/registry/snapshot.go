package registry

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"
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
		i := r.instanceLocked(key, record)
		s.add(i)
		if i.State == Offline && r.lost[key].After(s.lost) {
			s.lost = r.lost[key]
		}
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

// keepLocked stops the end of a liveness and tells whether it was about to end.
func (r *Registry) keepLocked(key string) bool {
	timer := r.fading[key]
	if timer == nil {
		return false
	}
	timer.Stop()
	delete(r.fading, key)
	return true
}

func (r *Registry) instanceLocked(key string, record stored) *Instance {
	load, alive := r.alive[key]
	if alive {
		delete(r.lost, key)
	}
	i := &Instance{Record: record.Record, State: Online, revision: record.revision, load: load}
	switch {
	case !alive:
		i.State, i.load = Offline, &atomic.Pointer[Load]{}
		if _, ok := r.lost[key]; !ok {
			r.lost[key] = time.Now()
		}
	case !record.Registered:
		i.State = Unregistered
	}
	return i
}

func (s *Service) add(i *Instance) {
	if i.State == Online {
		s.Online = append(s.Online, i)
		s.join(i.Endpoints)
		return
	}
	s.Rest = append(s.Rest, i)
}

// join takes the endpoints of one more online instance into what all of them say.
func (s *Service) join(endpoints []Endpoint) {
	if s.common == nil {
		s.common = make(map[string]Endpoint, len(endpoints))
	}
	for _, e := range endpoints {
		if c, ok := s.common[e.Name]; ok {
			e = e.Join(c)
		}
		s.common[e.Name] = e
	}
}

func byID(a, b *Instance) int { return cmp.Compare(a.Instance, b.Instance) }
