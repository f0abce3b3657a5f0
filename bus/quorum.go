package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	quorumTimeout = time.Second     // for the answer: a follower that waits for a leader gives none
	silence       = 4 * time.Second // after which a follower counts as away; it is heard every second
)

// What may keep a stream from storing, in the detail "reason" of the error of [Conn.CheckQuorum].
const (
	ReasonNoQuorum = "no_quorum" // a majority of its servers is away: only their return helps
	ReasonNoLeader = "no_leader" // nobody leads it, or says so: an election, of up to 10 s, helps where a majority is there
)

// CheckQuorum asks once, and waits at most 1 s, whether a stream can store. It returns nil where its servers see nothing in
// the way; unavailable with one of the reasons above; not_found; or permission_denied. A server that was killed is missed
// after some seconds only, one that was stopped at once.
func (c *Conn) CheckQuorum(ctx context.Context, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, quorumTimeout)
	defer cancel()
	var reply *nats.Msg
	request := &nats.Msg{Subject: "$JS.API.STREAM.INFO." + stream}
	err := c.Permitted(ctx, Access{Publish: []string{request.Subject}}, func(ctx context.Context) (err error) {
		reply, err = c.nc.RequestMsgWithContext(ctx, request)
		return err
	})
	if CodeOf(err) == PermissionDenied {
		return err
	}
	if err != nil {
		return noLeader(stream, err)
	}
	var info struct {
		Error   *jetstream.APIError    `json:"error"`
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return fmt.Errorf("bus: state of stream %q: %w", stream, err)
	}
	switch {
	case info.Error != nil && errors.Is(info.Error, jetstream.ErrStreamNotFound):
		return Wrap(NotFound, fmt.Sprintf("stream %q does not exist", stream), info.Error)
	case info.Error != nil:
		return noLeader(stream, info.Error)
	case info.Cluster == nil:
		return nil
	}
	return quorumOf(stream, info.Cluster)
}

// quorumOf judges what the leader, or a replica that has none, says of the others.
func quorumOf(stream string, cluster *jetstream.ClusterInfo) error {
	all := len(cluster.Replicas)
	if cluster.Leader != "" {
		all++ // it does not list itself
	}
	var away []string
	for _, r := range cluster.Replicas {
		if r.Offline || cluster.Leader != "" && r.Active > silence {
			away = append(away, r.Name)
		}
	}
	switch {
	case 2*(all-len(away)) <= all && len(away) > 0:
		return Errorf(Unavailable, "stream %q has no leader that can store: %d of its %d servers are away (%s)",
			stream, len(away), all, strings.Join(away, ", ")).With("reason", ReasonNoQuorum)
	case cluster.Leader == "":
		return noLeader(stream, nil)
	}
	return nil
}

func noLeader(stream string, cause error) *Error {
	text := fmt.Sprintf("stream %q has no leader", stream)
	if cause != nil {
		text += ": " + cause.Error()
	}
	return Wrap(Unavailable, text, cause).With("reason", ReasonNoLeader)
}
