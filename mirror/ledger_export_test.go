package mirror

import "context"

// LedgerStatus is for tests.
func (m *Mirror) LedgerStatus(ctx context.Context, seq uint64) (map[string]int, error) {
	return m.ledgerStatus(ctx, seq)
}
