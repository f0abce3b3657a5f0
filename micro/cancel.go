package micro

import (
	"hash/maphash"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Reasons to drop a message that cancels a request, beside those of package bus.
const (
	// DropUnknownCancel: no such request runs here. Of each cancel message all instances hear, and at most one has the request.
	DropUnknownCancel bus.Drop = "unknown_cancel"
	// DropForeignCancel: there is such a request, and the sender is not who made it, or did not say which one it means.
	DropForeignCancel bus.Drop = "foreign_cancel"
)

const cancelShards = 16

// requests are those being handled whose callers can cancel them, by request id. There are as many as handlers run, which
// the endpoints bound.
type requests struct {
	seed   maphash.Seed
	shards [cancelShards]requestShard
}

type requestShard struct {
	mu   sync.Mutex
	byID map[string]*inbound // with the others of the same id behind it: one handler's calls all have its id
}

// cancellable tells whether in can be told from others, and has a caller who waits.
func (in *inbound) cancellable() bool {
	return in.msg.Reply != "" && validRequestID(in.env.RequestID)
}

func (r *requests) shard(id string) *requestShard {
	return &r.shards[maphash.String(r.seed, id)%cancelShards]
}

func (r *requests) add(in *inbound) {
	sh := r.shard(in.env.RequestID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.byID == nil {
		sh.byID = map[string]*inbound{}
	}
	in.next = sh.byID[in.env.RequestID]
	sh.byID[in.env.RequestID] = in
}

func (r *requests) remove(in *inbound) {
	id := in.env.RequestID
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	first := sh.byID[id]
	if first == in {
		if in.next == nil {
			delete(sh.byID, id)
			return
		}
		sh.byID[id] = in.next
		return
	}
	for at := first; at != nil; at = at.next {
		if at.next == in {
			at.next = in.next
			return
		}
	}
}

// cancel ends the ctx of the requests that have the id, the attempt and the call of env, and were made by who has the inbox; endpoint, where it is
// not empty, restricts that to one endpoint. It tells whether there were any, and whether any of another sender.
func (r *requests) cancel(env bus.Envelope, inbox, endpoint string) (found, foreign bool) {
	sh := r.shard(env.RequestID)
	sh.mu.Lock()
	var ours []*inbound
	for in := sh.byID[env.RequestID]; in != nil; in = in.next {
		switch {
		case in.env.Attempt != env.Attempt || in.env.Call != env.Call || endpoint != "" && in.ep.name != endpoint:
		case inboxOf(in.msg.Reply) != inbox:
			foreign = true
		default:
			ours = append(ours, in)
		}
	}
	sh.mu.Unlock()
	for _, in := range ours {
		in.canceled.Store(true)
		in.cancel()
	}
	return len(ours) > 0, foreign
}

// inboxOf is what the reply subjects of one caller's requests share: all up to the last dot.
func inboxOf(reply string) string { return reply[:max(0, strings.LastIndexByte(reply, '.'))] }

// cancelRequest handles a message that says that a caller waits no longer.
func (s *Service) cancelRequest(m *nats.Msg) {
	env, err := bus.ReadEnvelope(m.Header)
	inbox := inboxOf(m.Reply)
	// An inbox of one token has no part that is its owner's alone, nor have the replies across accounts.
	if err != nil || env.RequestID == "" || !s.conn.IsInbox(inbox) || strings.HasPrefix(inbox, "_R_.") || len(m.Data) > bus.MaxToken {
		s.drops.add(DropForeignCancel)
		return
	}
	switch found, foreign := s.requests.cancel(env, inbox, string(m.Data)); {
	case found:
	case foreign:
		s.drops.add(DropForeignCancel)
	default:
		s.drops.add(DropUnknownCancel)
	}
}
