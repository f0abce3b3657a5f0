package mirror

import (
	"context"
	"time"
)

// Health says how backends are checked.
type Health struct {
	// Path is asked for. Empty means "/".
	Path string
	// Every is how often. 0 means 10 s.
	Every time.Duration
}

type nodeHealth struct{}

func (*Mirror) checkHealth(context.Context) {}
