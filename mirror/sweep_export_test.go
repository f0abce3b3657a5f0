package mirror

import (
	"context"
	"time"
)

// Sweep removes bodies that no write needs, once.
func (m *Mirror) Sweep(ctx context.Context, grace, age time.Duration) error {
	return newSweeper(m, grace, age).sweep(ctx)
}
