//go:build unix

package integration_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// commits are what senders stored of how far the copies are, as it was stored.
type commits struct {
	mu  sync.Mutex
	all map[string][]commit // by copy
}

type commit struct {
	Generation int64
	Term       string
	Read       uint64
	Marks      [][2]uint64
}

func watchCommits(t *testing.T, conn *bus.Conn) *commits {
	t.Helper()
	c := &commits{all: map[string][]commit{}}
	sub, err := conn.NATS().Subscribe("skybus.mirwn.default.dev.m.*", func(m *nats.Msg) {
		var p commit
		if json.Unmarshal(m.Data, &p) != nil || p.Term == "" {
			return // it says what was removed
		}
		name := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		c.mu.Lock()
		c.all[name] = append(c.all[name], p)
		c.mu.Unlock()
	})
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check makes sure that a sender stores nothing once another one has, and that none goes back.
func (c *commits) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		t.Error("no commit was heard of")
	}
	for name, all := range c.all {
		over := map[string]bool{}
		for i, p := range all[1:] {
			before := all[i]
			if p.Term != before.Term {
				over[before.Term] = true
			}
			if over[p.Term] {
				t.Errorf("copy %s: sender %s commits after %s", name, p.Term, before.Term)
			}
			if p.Generation == before.Generation && p.Term == before.Term && (p.Read < before.Read || p.floor() < before.floor()) {
				t.Errorf("copy %s: sender %s commits %+v after %+v", name, p.Term, p, before)
			}
		}
	}
}

func (p commit) floor() uint64 {
	floor := p.Read
	for _, m := range p.Marks {
		floor = min(floor, m[1])
	}
	return floor
}
