package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	pageKeys  = 1024 // the most the server answers at once
	pageBytes = 8 << 20
	idleLimit = attemptTimeout
)

// getRequest is a request for stored messages.
type getRequest struct {
	Seq           uint64   `json:"seq,omitempty"`
	LastBySubject string   `json:"last_by_subj,omitempty"`
	NextBySubject string   `json:"next_by_subj,omitempty"`
	MultiLast     []string `json:"multi_last,omitempty"`
	Batch         int      `json:"batch,omitempty"`
	MaxBytes      int      `json:"max_bytes,omitempty"`
}

// page is one answer to a direct get.
type page struct {
	records []record
	pending uint64 // how many did not fit
	upTo    uint64 // the last sequence of the replica that answered, where it said so
}

func (p *page) next() uint64 { return p.records[len(p.records)-1].seq + 1 }

// directGet asks any replica, once, for many messages. None at all is errNone, more than pageKeys keys errTooMany.
func (b *bucket) directGet(ctx context.Context, req getRequest) (page, error) {
	req.Batch, req.MaxBytes = pageKeys, pageBytes
	body, err := json.Marshal(req)
	if err != nil {
		return page{}, err
	}
	var p page
	subject := "$JS.API.DIRECT.GET." + b.stream
	read := func(ctx context.Context) error {
		answers := make(chan *nats.Msg, pageKeys+1) // room for all: none is dropped
		inbox := b.nc.NewInbox()
		sub, err := b.nc.ChanSubscribe(inbox, answers)
		if err != nil {
			return err
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
		if err := b.nc.PublishRequest(subject, inbox, body); err != nil {
			return err
		}
		return b.readPage(ctx, answers, &p)
	}
	err = b.attempt(ctx, time.Minute, func(ctx context.Context) error {
		return b.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, read)
	})
	return p, err
}

func (b *bucket) readPage(ctx context.Context, answers <-chan *nats.Msg, p *page) error {
	idle := time.NewTimer(idleLimit)
	defer idle.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-idle.C:
			return errNoAnswer
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		idle.Reset(idleLimit)
		if last(m.Header, headerSequence) == "" { // all stored messages have one
			return p.end(last(m.Header, headerStatus), m.Header)
		}
		r, err := b.parse(m)
		if err != nil {
			return fmt.Errorf("direct get: %w", err)
		}
		p.records = append(p.records, r)
	}
}

func (p *page) end(status string, h nats.Header) error {
	switch status {
	case "204":
		p.pending, p.upTo = number(h, headerPending), number(h, headerUpTo)
		if len(p.records) == 0 && p.pending > 0 {
			return errBehind // cut short before the first: nothing to go on from
		}
		return nil
	case "404":
		if len(p.records) > 0 {
			return errBehind // a message went away while it was read
		}
		return errNone
	case "413":
		return errTooMany
	case "503":
		return nats.ErrNoResponders
	}
	return fmt.Errorf("direct get: status %s %s", status, last(h, headerDescription))
}

// snapshot is the last message of every key that matches a pattern, deletions included.
type snapshot struct {
	info    streamInfo
	records []record // a key may have several: the highest sequence counts
	upTo    uint64   // complete up to here
}

// snapshot reads the current state from the replicas, checks that it is at least as new as the leader's, and fails with
// errBehind when it is not.
func (b *bucket) snapshot(ctx context.Context, pattern string) (snapshot, error) {
	info, err := b.info(ctx)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{info: info}
	atLeast := info.State.LastSeq
	filter := b.prefix + pattern
	req := getRequest{MultiLast: []string{filter}}
	for {
		p, err := b.directGet(ctx, req)
		switch {
		case errors.Is(err, errTooMany):
			s.records, s.upTo, err = b.scan(ctx, filter, 0)
			s.upTo = max(s.upTo, info.State.LastSeq)
			return s, err
		case errors.Is(err, errNone) && req.Seq == 0:
			s.upTo, err = info.State.LastSeq, b.isEmpty(ctx, filter)
			return s, err
		case errors.Is(err, errNone):
			return s, errBehind
		case err != nil:
			return s, err
		}
		// A later page may come from another replica: it must not be older than the first.
		if p.upTo < atLeast {
			return s, errBehind
		}
		atLeast = p.upTo
		if s.upTo == 0 {
			s.upTo = p.upTo
		}
		s.records = append(s.records, p.records...)
		if p.pending == 0 {
			return s, nil
		}
		req.Seq = p.next()
	}
}

// isEmpty asks the leader whether there is no message at all; if there is one, the replica that had none is behind.
func (b *bucket) isEmpty(ctx context.Context, filter string) error {
	switch _, err := b.leaderLast(ctx, filter); {
	case errors.Is(err, errNone):
		return nil
	case err != nil:
		return err
	}
	return errBehind
}

func (b *bucket) leaderLast(ctx context.Context, filter string) (uint64, error) {
	r, err := b.leaderGet(ctx, getRequest{LastBySubject: filter})
	return r.seq, err
}

// scan reads every message that matches filter from sequence from on, and returns up to where that is complete. The
// replicas do not say how new they are here, so it goes on until it has what the leader has; asking the leader after a
// first pass makes sure that a key which moved on while its page was read is not missed.
func (b *bucket) scan(ctx context.Context, filter string, from uint64) (records []record, upTo uint64, err error) {
	from = max(from, 1)
	pass := func() error {
		for {
			p, err := b.directGet(ctx, getRequest{NextBySubject: filter, Seq: from})
			switch {
			case errors.Is(err, errNone):
				return nil
			case err != nil:
				return err
			}
			if len(p.records) > 0 {
				records, from = append(records, p.records...), p.next()
			}
			if p.pending == 0 || len(p.records) == 0 {
				return nil
			}
		}
	}
	if err := pass(); err != nil {
		return nil, 0, err
	}
	newest, err := b.leaderLast(ctx, filter)
	if errors.Is(err, errNone) && len(records) == 0 {
		return nil, from - 1, nil
	}
	if errors.Is(err, errNone) {
		err = errBehind
	}
	if err != nil {
		return nil, 0, err
	}
	if from <= newest {
		if err := pass(); err != nil {
			return nil, 0, err
		}
	}
	if from <= newest {
		return nil, 0, errBehind
	}
	return records, from - 1, nil
}
