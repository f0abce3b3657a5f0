package scheduler

import "context"

// runWorkers delivers what is due until ctx ends.
func (s *Scheduler) runWorkers(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
