package mirror_test

import (
	"encoding/json"
	"errors"
	"net/http"
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
	record := decode(t, last.Data)
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
		terms = append(terms, decode(t, msg.Data)["term"])
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

// A new sender has made the record of a backend its own before it sends anything: from then on nobody else can say what is applied.
func TestNothingIsSentBeforeTheRecordIsTakenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Ack: mirror.Queued})
	front := serve(t, m)
	stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIRW")
	if err != nil {
		t.Fatal(err)
	}
	terms := make(chan any, 10)
	r.backends[0].setRefuse(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut {
			last, err := stream.GetLastMsgForSubject(req.Context(), "skybus.mirw.default.dev.default.a")
			if err != nil {
				terms <- err
				return false
			}
			terms <- decode(t, last.Data)["term"]
		}
		return false
	})
	write := func() {
		if got := do(t, http.MethodPut, front.URL+"/x", "x"); got.status != http.StatusAccepted {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	write()
	stop := run(t, m)
	first := <-terms
	stop()
	write()
	run(t, m)
	second := <-terms
	_, known := first.(string)
	if _, ok := second.(string); !known || !ok || second == first {
		t.Errorf("a write was sent while the record was of term %v, and by the next sender while it was of %v", first, second)
	}
}

func decode(t *testing.T, data []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Error(err)
	}
	return v
}
