package mirror

import (
	"context"

	"github.com/skybus-io/skybus/bus"
)

// Repair sends a backend all writes again that are kept, from seq on, 0 for the first; until it is level it serves no reads. What waits for it is sent as part
// of that. Nothing on the backend is removed before: where writes do not say all that there is, give it a copy of another's data and the write after those that the other had applied before.
//
// The error is not_found where there is no such backend, failed_precondition where it is not active or writes from seq on were removed, as all had applied them, and
// invalid_argument where there is no write seq yet.
func (m *Mirror) Repair(ctx context.Context, backend string, seq uint64) (Backend, error) {
	b, err := m.Get(ctx, backend)
	if err != nil {
		return Backend{}, err
	}
	if !b.Active {
		return Backend{}, bus.Errorf(bus.FailedPrecondition, "mirror: backend %q is not active: set it active first", backend)
	}
	if seq == 0 {
		if seq, err = m.removedUpTo(ctx); err != nil {
			return Backend{}, err
		}
		seq++
	}
	return m.Set(ctx, b, From(seq))
}
