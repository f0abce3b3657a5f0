package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestQuorumOf(t *testing.T) {
	t.Parallel()
	here := func(name string) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Name: name, Current: true, Active: time.Second}
	}
	stopped := func(name string) *jetstream.PeerInfo { return &jetstream.PeerInfo{Name: name, Offline: true} }
	silent := func(name string) *jetstream.PeerInfo { return &jetstream.PeerInfo{Name: name, Active: 5 * time.Second} }
	type peers = []*jetstream.PeerInfo
	for name, tt := range map[string]struct {
		leader   string
		replicas peers
		reason   string
	}{
		"one server":                      {"a", nil, ""},
		"all are there":                   {"a", peers{here("b"), here("c")}, ""},
		"one of three is stopped":         {"a", peers{here("b"), stopped("c")}, ""},
		"one of three was killed":         {"a", peers{silent("b"), here("c")}, ""},
		"two of three are stopped":        {"a", peers{stopped("b"), stopped("c")}, ReasonNoQuorum},
		"two of three were killed":        {"a", peers{silent("b"), silent("c")}, ReasonNoQuorum},
		"a leaderless one of three":       {"", peers{here("a"), stopped("b"), stopped("c")}, ReasonNoQuorum},
		"an election":                     {"", peers{here("a"), here("b"), stopped("c")}, ReasonNoLeader},
		"an election after a kill":        {"", peers{here("a"), silent("b"), silent("c")}, ReasonNoLeader}, // who leads nobody hears from nobody
		"two of five are stopped":         {"a", peers{stopped("b"), stopped("c"), here("d"), here("e")}, ""},
		"three of five are stopped":       {"a", peers{stopped("b"), stopped("c"), silent("d"), here("e")}, ReasonNoQuorum},
		"one of two is stopped":           {"a", peers{stopped("b")}, ReasonNoQuorum},
		"nobody leads and nobody is away": {"", peers{here("a")}, ReasonNoLeader},
	} {
		err := quorumOf("S", &jetstream.ClusterInfo{Leader: tt.leader, Replicas: tt.replicas})
		switch {
		case err == nil && tt.reason != "", err != nil && CodeOf(err) != Unavailable:
			t.Errorf("%s: %v", name, err)
		case err != nil && AsError(err).Details["reason"] != tt.reason:
			t.Errorf("%s: %v, want the reason %q", name, err, tt.reason)
		}
	}
}
