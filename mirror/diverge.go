package mirror

import "context"

// judges find the backends that answer otherwise than the others.
type judges struct{}

func (*sender) openJudges(context.Context) error { return nil }

// judge is told of a backend's final answer before it counts as applied.
func (*sender) judge(_ *applier, _ *write, _ *answer) error { return nil }
