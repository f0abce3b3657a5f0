package registry

import (
	"fmt"
	"time"
)

// whose says who has an instance, for a person who has to decide what to do.
func whose(r Record) string {
	who := "held by another process"
	if r.PID != 0 {
		who = fmt.Sprintf("held by process %d", r.PID)
	}
	if r.Host != "" {
		who += " on host " + r.Host
	}
	if !r.Started.IsZero() {
		who += ", started " + r.Started.UTC().Format(time.RFC3339)
	}
	return who
}

func (a *Announcer) answerPings() error { return nil }

func (a *Announcer) stopAnswering() {}
