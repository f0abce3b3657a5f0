package mirror_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/mirror"
)

// Who finds that somebody else has stored what a backend has applied sends no more: it stores nothing over that, and takes over again from there.
func TestCommitOfAnotherIsNotOverwritten(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	feed, err := r.conn.NATS().SubscribeSync("skybus.mirwn.default.dev.default.a")
	if err != nil {
		t.Fatal(err)
	}
	run(t, m)
	front := serve(t, m)
	status(t, m, put(t, front.URL+"/x", "one"), 1)
	stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIRW")
	if err != nil {
		t.Fatal(err)
	}
	const subject, another = "skybus.mirw.default.dev.default.a", "another"
	last, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(last.Data, &record); err != nil {
		t.Fatal(err)
	}
	old := record["term"]
	record["term"] = another
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.conn.JetStream().Publish(t.Context(), subject, data); err != nil {
		t.Fatal(err)
	}
	put(t, front.URL+"/x", "two")
	eventually(t, "it takes over once more", func() bool { return m.Stats().Takeovers == 2 })
	status(t, m, put(t, front.URL+"/x", "three"), 1)
	var terms []any
	for {
		msg, err := feed.NextMsg(100 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var p map[string]any
		if err := json.Unmarshal(msg.Data, &p); err != nil {
			t.Fatal(err)
		}
		terms = append(terms, p["term"])
	}
	over := false
	for _, term := range terms {
		if over = over || term == another; over && term == old {
			t.Errorf("stored by %v, after %s", old, another)
		}
	}
	if !over || terms[len(terms)-1] == another {
		t.Errorf("stored by %v, want another one after %s", terms, another)
	}
}
