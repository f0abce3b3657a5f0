package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

// limitPending is what the figures and errors call Async.MaxPending.
const limitPending = "pending"

// clientOf is who asks, as a token of a subject: the principal, or an address where nobody has to say who it is.
func (x *exchange) clientOf(r *http.Request) string {
	who := x.principal()
	if who == "" {
		who = "address:" + limit.Network(x.gateway.proxies.ClientIP(r)).String()
	}
	sum := sha256.Sum256([]byte(who))
	return hex.EncodeToString(sum[:8])
}

// subjectOf is where work is stored. What stands behind the entry tells clients apart, and is a part of its token: gateways may publish no deeper.
func (l *later) subjectOf(work laterWork) string {
	if work.Client == "" {
		return l.subject(work.Entry)
	}
	return l.subject(work.Entry + "=" + work.Client)
}

// entryIn is the entry that the last token of such a subject is of.
func entryIn(subject string) string {
	entry, _, _ := strings.Cut(subject[strings.LastIndexByte(subject, '.')+1:], "=")
	return entry
}

// room tells whether a client may have one more request that waits for its answer. What waits is what the queue holds, whichever gateway put it there; requests that come
// at the same moment do not see each other.
func (l *later) room(ctx context.Context, work laterWork, most int) error {
	subject := l.subjectOf(work)
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	waiting, err := l.waiting(ctx, subject)
	if err != nil {
		return unavailable("it cannot be told how many requests wait", err)
	}
	if waiting < most {
		return nil
	}
	return bus.Errorf(bus.ResourceExhausted, "%d of your requests wait for their answers here, and more may not (max_pending): ask for these first", waiting).
		With("limit", limitPending)
}

// waiting is how many requests are stored at a subject.
func (l *later) waiting(ctx context.Context, subject string) (n int, err error) {
	req, err := json.Marshal(map[string]string{"subjects_filter": subject})
	if err != nil {
		return 0, err
	}
	ask := &nats.Msg{Subject: "$JS.API.STREAM.INFO." + LaterStream, Data: req}
	var reply *nats.Msg
	err = l.conn.Permitted(ctx, bus.Access{Publish: []string{ask.Subject}}, func(ctx context.Context) (err error) {
		reply, err = l.conn.Request(ctx, ask)
		return err
	})
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		State struct {
			Subjects map[string]int `json:"subjects"`
		} `json:"state"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, err
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound { // who stores the next one makes it
			return 0, nil
		}
		return 0, answer.Error
	}
	return answer.State.Subjects[subject], nil
}
