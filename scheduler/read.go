package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	pageMessages = 1000 // the server answers with 1024 at most
	firstPage    = 128
	pageBytes    = 8 << 20
	pageBodies   = 2000
	readIdle     = 3 * time.Second
	readAttempts = 3
)

var (
	errNone    = errors.New("there is no such message")
	errNoReply = errors.New("the server does not answer")
	errMoved   = errors.New("there is more, or what was read went away meanwhile")
)

// last is the last message of a subject, by the word of the shard's leader. None is errNone.
func (s *Scheduler) last(ctx context.Context, sh *shard, subject string) (*nats.Msg, uint64, error) {
	return s.ask(ctx, sh, getRequest{LastBySubject: subject})
}

// following is the first message of a subject pattern from sequence from on, by the word of the shard's leader. None is errNone.
func (s *Scheduler) following(ctx context.Context, sh *shard, pattern string, from uint64) (*nats.Msg, uint64, error) {
	return s.ask(ctx, sh, getRequest{Seq: max(from, 1), NextBySubject: pattern})
}

// ask asks the shard's leader for one message, again and again while no leader answers, for as long as ctx allows or 10 s. Where there is one
// replica only, a direct get, which any replica answers, does the same.
func (s *Scheduler) ask(ctx context.Context, sh *shard, req getRequest) (*nats.Msg, uint64, error) {
	subject, read := "$JS.API.STREAM.MSG.GET."+streamName(sh.shard), leaderAnswer
	if !sh.replicated() {
		subject, read = "$JS.API.DIRECT.GET."+streamName(sh.shard), directAnswer
	}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, 0, fmt.Errorf("scheduler: read: %w", err)
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	for {
		m, seq, err := s.askOnce(ctx, subject, body, read)
		if err == nil || errors.Is(err, errNone) {
			return m, seq, err
		}
		if !again(err) || !backoff.Sleep(ctx, storePause) {
			return nil, 0, fmt.Errorf("scheduler: read timers: %w", err)
		}
	}
}

func (s *Scheduler) askOnce(ctx context.Context, subject string, body []byte, read func(*nats.Msg) (*nats.Msg, uint64, error)) (*nats.Msg, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeAttempt)
	defer cancel()
	answer, err := s.conn.Request(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return nil, 0, err
	}
	return read(answer)
}

// directAnswer is the message in an answer to a direct get of one.
func directAnswer(m *nats.Msg) (*nats.Msg, uint64, error) {
	if status := first(m.Header, "Status"); status != "" {
		err := pageEnd(status, 0)
		if err == nil {
			err = errNone
		}
		return nil, 0, err
	}
	seq, err := parseSeq(first(m.Header, jetstream.SequenceHeader))
	if err != nil {
		return nil, 0, fmt.Errorf("sequence of a stored message: %w", err)
	}
	m.Subject = first(m.Header, jetstream.SubjectHeader)
	return m, seq, nil
}

// leaderAnswer is the message in an answer of the JetStream API.
func leaderAnswer(answer *nats.Msg) (*nats.Msg, uint64, error) {
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return nil, 0, fmt.Errorf("scheduler: read: %w", err)
	}
	switch {
	case a.Error != nil && a.Error.ErrorCode == jscode.NoMessage:
		return nil, 0, errNone
	case a.Error != nil:
		return nil, 0, fmt.Errorf("scheduler: read: %w", a.Error)
	case a.Message == nil:
		return nil, 0, errNone
	}
	m := &nats.Msg{Subject: a.Message.Subject, Data: a.Message.Data, Header: nats.Header{}}
	if len(a.Message.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(a.Message.Header)
		if err != nil {
			return nil, 0, fmt.Errorf("scheduler: read %q: %w", m.Subject, err)
		}
		m.Header = h
	}
	m.Header[jetstream.TimeStampHeaer] = []string{a.Message.Time.Format(time.RFC3339Nano)}
	return m, a.Message.Sequence, nil
}

// replicated tells whether several servers hold the shard, of which those that follow may be behind.
func (sh *shard) replicated() bool { return sh.stream.CachedInfo().Config.Replicas > 1 }

// pending is the pending message of a timer, of any kind that is one, by the word of the shard's leader. One that is not readable is data_loss.
func (s *Scheduler) pending(ctx context.Context, sh *shard, id string) (*stored, error) {
	m, seq, err := s.last(ctx, sh, sh.subject(kindPending, id))
	if err != nil {
		return nil, err
	}
	if isGone(m) {
		return nil, errNone
	}
	found, err := readStored(m.Subject, seq, storedAt(m), m.Header, m.Data)
	if err != nil {
		return nil, unreadable(err)
	}
	return found, nil
}

// getRequest is a batched direct get, ADR-31.
type getRequest struct {
	Seq           uint64   `json:"seq,omitempty"`
	NextBySubject string   `json:"next_by_subj,omitempty"`
	LastBySubject string   `json:"last_by_subj,omitempty"`
	MultiLast     []string `json:"multi_last,omitempty"`
	Batch         int      `json:"batch,omitempty"`
	MaxBytes      int      `json:"max_bytes,omitempty"`
	NoHeaders     bool     `json:"no_hdr,omitempty"`
}

// scan calls f with the stored messages of a subject pattern from sequence from on, in order, until there are no more or f returns false. The
// first page is a small one: who lists a few reads no more.
func (s *Scheduler) scan(ctx context.Context, sh *shard, pattern string, from uint64, f func(*nats.Msg, uint64) bool) error {
	from = max(from, 1)
	for page := firstPage; ; page = pageMessages {
		n, more := 0, true
		err := s.directGet(ctx, sh, getRequest{Seq: from, NextBySubject: pattern, Batch: page}, func(m *nats.Msg, seq uint64) {
			n, from = n+1, seq+1
			more = more && f(m, seq)
		})
		if !more || err == nil || errors.Is(err, errNone) || n == 0 && errors.Is(err, errMoved) {
			return nil
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// each calls f with the messages of a few subject patterns, by the word of the shard's leader, until f returns false: patterns that match few.
func (s *Scheduler) each(ctx context.Context, sh *shard, patterns []string, f func(*nats.Msg, uint64) bool) error {
	for _, pattern := range patterns {
		for from := uint64(1); ; {
			m, seq, err := s.following(ctx, sh, pattern, from)
			if errors.Is(err, errNone) {
				break
			}
			if err != nil {
				return err
			}
			if !f(m, seq) {
				return nil
			}
			from = seq + 1
		}
	}
	return nil
}

// count is how many messages a subject pattern matches, by the word of any replica: with the first one it tells how many are to come.
func (s *Scheduler) count(ctx context.Context, sh *shard, pattern string) (n int, err error) {
	var bad error
	err = s.directGet(ctx, sh, getRequest{Seq: 1, NextBySubject: pattern, Batch: 1}, func(m *nats.Msg, _ uint64) {
		var more uint64
		more, bad = parseSeq(first(m.Header, headerNumPending))
		n = 1 + int(more)
	})
	if errors.Is(err, errNone) || errors.Is(err, errMoved) {
		err = nil
	}
	return n, errors.Join(err, bad)
}

// lasts calls f with the last message of each of the subjects, of which there may be 1,000, by the word of any replica. They come by
// sequence, in as many pages as it takes.
func (s *Scheduler) lasts(ctx context.Context, sh *shard, subjects []string, f func(*nats.Msg, uint64)) error {
	for from := uint64(0); ; {
		n := 0
		err := s.directGet(ctx, sh, getRequest{Seq: from, MultiLast: subjects}, func(m *nats.Msg, seq uint64) {
			n, from = n+1, seq+1
			f(m, seq)
		})
		if err == nil || errors.Is(err, errNone) || n == 0 && errors.Is(err, errMoved) {
			return nil
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// directGet asks any replica for messages. An answer that does not come is asked for again, as long as none of its messages came.
func (s *Scheduler) directGet(ctx context.Context, sh *shard, req getRequest, f func(*nats.Msg, uint64)) error {
	req.Batch, req.MaxBytes = cmp.Or(req.Batch, pageMessages), pageBytes
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("scheduler: direct get: %w", err)
	}
	subject := "$JS.API.DIRECT.GET." + streamName(sh.shard)
	for attempt := 1; ; attempt++ {
		n := 0
		err = s.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) error {
			return s.readPage(ctx, subject, body, func(m *nats.Msg, seq uint64) { n++; f(m, seq) })
		})
		if n > 0 || attempt == readAttempts || !errors.Is(err, errNoReply) && !errors.Is(err, nats.ErrNoResponders) {
			return err
		}
	}
}

func (s *Scheduler) readPage(ctx context.Context, subject string, body []byte, f func(*nats.Msg, uint64)) error {
	n := 0
	var bad error
	end, err := s.answers(ctx, subject, body, pageMessages, func(m *nats.Msg) bool {
		seq := first(m.Header, jetstream.SequenceHeader)
		if seq == "" { // all stored messages have one
			return false
		}
		number, err := strconv.ParseUint(seq, 10, 64)
		if err != nil {
			bad = fmt.Errorf("scheduler: direct get: sequence %q: %w", seq, err)
			return false
		}
		m.Subject = first(m.Header, jetstream.SubjectHeader)
		f(m, number)
		n++
		return true
	})
	switch {
	case err != nil:
		return err
	case bad != nil:
		return bad
	case first(end.Header, headerNumPending) != "0" && n > 0 && first(end.Header, "Status") == "204":
		return errMoved // the page was full
	}
	return pageEnd(first(end.Header, "Status"), n)
}

// answers calls f with the answers to a direct get of at most n messages, and returns the first one that f does not take: the last one.
func (s *Scheduler) answers(ctx context.Context, subject string, body []byte, n int, f func(*nats.Msg) bool) (*nats.Msg, error) {
	nc := s.conn.NATS()
	answers := make(chan *nats.Msg, n+1) // room for all: none is dropped
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("scheduler: direct get: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := nc.PublishRequest(subject, inbox, body); err != nil {
		return nil, fmt.Errorf("scheduler: direct get: %w", err)
	}
	idle := time.NewTimer(readIdle)
	defer idle.Stop()
	for {
		select {
		case m := <-answers:
			if !f(m) {
				return m, nil
			}
			idle.Reset(readIdle)
		case <-idle.C:
			return nil, errNoReply
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// bodies calls f with the bodies of all that a shard has from sequence from on, in their order, and with a sequence that each has or is after. It
// returns the sequence after the last one.
func (s *Scheduler) bodies(ctx context.Context, sh *shard, from uint64, f func(body []byte, seq uint64)) (next uint64, err error) {
	subject := "$JS.API.DIRECT.GET." + streamName(sh.shard)
	for attempt := 1; ; attempt++ {
		from = max(from, 1)
		body, err := json.Marshal(getRequest{Seq: from, Batch: pageBodies, MaxBytes: pageBytes, NoHeaders: true})
		if err != nil {
			return from, fmt.Errorf("scheduler: direct get: %w", err)
		}
		var end *nats.Msg
		err = s.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) (err error) {
			end, err = s.answers(ctx, subject, body, pageBodies, func(m *nats.Msg) bool {
				if len(m.Header) > 0 {
					return false
				}
				f(m.Data, from)
				return true
			})
			return err
		})
		if err == nil {
			switch err = pageEnd(first(end.Header, "Status"), 0); {
			case errors.Is(err, errNone):
				return from, nil
			case err == nil:
				last, perr := parseSeq(first(end.Header, jetstream.LastSequenceHeader))
				if perr != nil || last < from {
					return from, fmt.Errorf("scheduler: direct get: it ends at sequence %q: %w", first(end.Header, jetstream.LastSequenceHeader), errMoved)
				}
				from, attempt = last+1, 0
				continue
			}
		}
		if attempt == readAttempts || !errors.Is(err, errNoReply) && !errors.Is(err, nats.ErrNoResponders) {
			return from, err
		}
	}
}

// pageEnd is what the last message of an answer says, after n others.
func pageEnd(status string, n int) error {
	switch status {
	case "204":
		return nil
	case "404":
		if n > 0 {
			return errMoved
		}
		return errNone
	case "503":
		return nats.ErrNoResponders
	}
	return fmt.Errorf("scheduler: direct get: status %q", status)
}

// storedAt is when a message that was read directly was stored.
func storedAt(m *nats.Msg) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, first(m.Header, jetstream.TimeStampHeaer))
	return t
}
