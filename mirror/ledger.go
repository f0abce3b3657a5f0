package mirror

import "context"

// entry is what a backend answered to a write.
type entry struct {
	seq    uint64
	status uint16
	hash   uint32
}

// record stores entries, before the progress they belong to is committed.
func (*sender) record(context.Context, *applier, []entry) error { return nil }
