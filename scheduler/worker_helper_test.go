package scheduler_test

import (
	"encoding/json"
	"hash/fnv"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/scheduler"
)

// dueSubject is where a timer is due, of the two shards of these tests.
func dueSubject(id string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte("default.dev." + id))
	return "skybus.tmr." + strconv.Itoa(int(h.Sum64()%2)) + ".f.default.dev." + id
}

// fireByServer stores what the server stores when no owner fires.
func fireByServer(t *testing.T, s *process, id string, target scheduler.Target) {
	t.Helper()
	fireByServerAt(t, s, id, target, time.Now())
}

// fireByServerAt fires what is due at another time.
func fireByServerAt(t *testing.T, s *process, id string, target scheduler.Target, due time.Time) {
	t.Helper()
	record, err := json.Marshal(map[string]any{"g": "G", "n": 1, "t": target})
	if err != nil {
		t.Fatal(err)
	}
	storeRaw(t, s, dueSubject(id), nil, body(t, string(record), due, ""))
}

// body is that of a message of a timer.
func body(t testing.TB, record string, due time.Time, payload string) string {
	t.Helper()
	b, err := scheduler.Body(record, due, payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func storeRaw(t *testing.T, s *process, subject string, h nats.Header, body string) {
	t.Helper()
	if _, err := s.conn.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h, Data: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}
