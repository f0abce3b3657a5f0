package file

import (
	"sync"
	"sync/atomic"
)

// Stats is what a source has done in this process.
type Stats struct {
	Active      bool   `json:"active"`      // this process works; another one does, or nobody, where it is false
	Takeovers   uint64 `json:"takeovers"`   // how often it began to
	Sent        uint64 `json:"sent"`        // records that the target took
	Refused     uint64 `json:"refused"`     // records that were put aside
	Retries     uint64 `json:"retries"`     // attempts that another one followed
	Bytes       uint64 `json:"bytes"`       // of the records that were sent or put aside, as they stand in the files
	Files       uint64 `json:"files"`       // that were finished
	Waiting     int64  `json:"waiting"`     // files of the directory that are not begun, at the last look
	Left        int64  `json:"left"`        // bytes of them, and of those begun, that are not done
	Unfinished  int64  `json:"unfinished"`  // records that were sent and that no checkpoint covers
	Checkpoints uint64 `json:"checkpoints"` // that were written
	Rotations   uint64 `json:"rotations"`   // of a followed file
	Truncations uint64 `json:"truncations"` // of files that were read
	Lost        uint64 `json:"lost"`        // files that were gone before all of them was read
	Faults      uint64 `json:"faults"`      // of disk, server and directories
	LastFault   string `json:"last_fault"`  // empty for none
}

type counts struct {
	active                               atomic.Bool
	takeovers, sent, refused, retries    atomic.Uint64
	bytes, files, checkpoints, rotations atomic.Uint64
	truncations, lost, faults            atomic.Uint64
	waiting, left, unfinished            atomic.Int64

	mu        sync.Mutex
	lastFault string
}

// fault counts an error that is waited out.
func (c *counts) fault(err error) {
	c.faults.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastFault = err.Error()
}

// Stats is what this process has done with the source since [New].
func (s *Source) Stats() Stats {
	c := &s.counts
	c.mu.Lock()
	last := c.lastFault
	c.mu.Unlock()
	return Stats{
		Active: c.active.Load(), Takeovers: c.takeovers.Load(), Sent: c.sent.Load(), Refused: c.refused.Load(), Retries: c.retries.Load(),
		Bytes: c.bytes.Load(), Files: c.files.Load(), Waiting: c.waiting.Load(), Left: max(0, c.left.Load()), Unfinished: c.unfinished.Load(),
		Checkpoints: c.checkpoints.Load(), Rotations: c.rotations.Load(), Truncations: c.truncations.Load(), Lost: c.lost.Load(),
		Faults: c.faults.Load(), LastFault: last,
	}
}
