package scheduler

import "context"

// Run fires and delivers timers until ctx ends, together with all other processes that run it for the same namespace. Then it takes
// nothing more, lets what is being delivered finish for Config.Drain, and returns nil.
func (s *Scheduler) Run(ctx context.Context) error {
	return s.runWorkers(ctx)
}
