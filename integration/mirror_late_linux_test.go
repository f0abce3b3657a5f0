package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestMirrorSenderFrozenInBody stops the process that sends in the middle of a request, while the copy reads nothing. When it goes on, another one has sent that write
// and a later one: the copy must not get the rest of the old request.
func TestMirrorSenderFrozenInBody(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 1, 0, "ack: queued")
	r.edit("timeout: 1s", "timeout: 1m") // so that it is not the time of the request that ends it
	r.procs = []*platform{r.startMirror(), r.startMirror()}
	r.ever = append(r.ever, r.procs...)
	m, c := r.open(), r.copies[0]
	at := r.sender(m)
	old, url := r.procs[at], r.urls()[1-at]
	w := startWriters(t, []string{url}, 0, 1)
	put := func(body string) uint64 {
		s := w.write(url, apply{Method: http.MethodPut, Path: "/item", Body: body})
		if s.stored != accepted {
			t.Fatalf("answered %d %s", s.status, s.text)
		}
		return s.Seq
	}
	applied := func(seq uint64) {
		eventually(t, patience, fmt.Sprintf("write %d is applied", seq), func() bool { return c.lacks(seq-1, seq) == 0 })
	}
	first := put("first")
	eventually(t, patience, "the first write is answered", func() bool { return m.Conditions()[0].Applied >= first }) // a copy that is stopped before would hold up the next

	c.Freeze()
	long := put(strings.Repeat("long", 8<<20)) // more than the buffers between the two take
	eventually(t, patience, "the sender is in the middle of the request", func() bool { return unsent(t, c.config.Listen) > 100_000 })
	old.Freeze()
	eventually(t, patience, "the other process sends", func() bool { return r.sender(m) != at })
	c.Thaw()
	applied(long)
	applied(put("last"))

	old.Thaw()
	old.Await(`"sending given up`) // after all its requests have ended
	r.settle(w, nil)
}

// unsent is how many bytes wait in this machine's sockets for who listens at an address.
func unsent(t *testing.T, addr string) (n uint64) {
	t.Helper()
	data, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	want, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line) // number, local, remote, state, queues
		if len(fields) < 5 {
			continue
		}
		_, remote, _ := strings.Cut(fields[2], ":")
		queue, _, _ := strings.Cut(fields[4], ":")
		at, aerr := strconv.ParseUint(remote, 16, 16)
		waiting, qerr := strconv.ParseUint(queue, 16, 64)
		if aerr == nil && qerr == nil && at == want { // the first line has names
			n += waiting
		}
	}
	return n
}
