//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// stored is what a client knows about a write.
type stored int

const (
	unknown   stored = iota // nobody said
	accepted                // it is stored
	notStored               // it never will be
)

// sent is a write as its client saw it.
type sent struct {
	apply // Seq and Lane as they were told

	begin, end time.Time
	status     int // 0 when there was no answer
	stored     stored
	retry      string // Retry-After
	text       string // of an answer that is not 2xx
}

// writers are the clients of a mirror.
type writers struct {
	t      *testing.T
	client *http.Client
	urls   []string
	pad    string // added to each body
	stop   context.CancelFunc
	wg     sync.WaitGroup

	once  sync.Once
	ended time.Time

	mu   sync.Mutex
	all  []sent
	good int
}

// startWriters starts clients, by turns of each process of a mirror, that together make so many writes a second, or as many as they can, until end is called.
func startWriters(t *testing.T, urls []string, clients, rate int) *writers {
	t.Helper()
	return startPadded(t, urls, clients, rate, "")
}

func startPadded(t *testing.T, urls []string, clients, rate int, pad string) *writers {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	w := &writers{t: t, urls: urls, pad: pad, stop: stop, client: &http.Client{Transport: transport, Timeout: patience}}
	t.Cleanup(func() { w.end(); transport.CloseIdleConnections() })
	began := time.Now()
	for i := range clients {
		w.wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // for tests
			for n := 0; ctx.Err() == nil; n++ {
				pause := shortest
				if rate > 0 {
					pause = time.Until(began.Add(time.Duration(i+n*clients) * time.Second / time.Duration(rate)))
				}
				select {
				case <-time.After(pause):
					w.one(fmt.Sprintf("%d-%d", i, n), urls[i%len(urls)], r)
				case <-ctx.Done():
				}
			}
		})
	}
	return w
}

// one makes a write: most replace what is at one of some paths, others add to it or delete it. Every other has an Idempotency-Key of the client.
func (w *writers) one(id, url string, r *rand.Rand) {
	a := apply{Method: http.MethodPut, Path: fmt.Sprintf("/item/%d", r.IntN(100)), Body: id + w.pad}
	switch n := r.IntN(10); n {
	case 0:
		a.Method = http.MethodDelete
	case 1, 2:
		a.Method, a.Path = http.MethodPost, fmt.Sprintf("/list/%d", r.IntN(20))
	}
	if r.IntN(2) == 0 {
		a.Key = "key-" + id
	}
	w.write(url, a)
}

// write makes a write and notes what came of it.
func (w *writers) write(url string, a apply) sent {
	a.Hash = hashText(a.Body)
	s := sent{apply: a, begin: time.Now()}
	w.exchange(url, &s)
	s.end = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
	if s.stored == accepted {
		w.good++
	}
	return s
}

func (w *writers) exchange(url string, s *sent) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(w.t.Context()), s.Method, url+s.Path, bytes.NewReader([]byte(s.Body)))
	if err != nil {
		w.t.Error(err)
		return
	}
	req.GetBody = nil // the transport must not repeat it
	if s.Key != "" {
		req.Header.Set("Idempotency-Key", s.Key)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		s.text = err.Error()
		if strings.Contains(s.text, "connection refused") {
			s.stored = notStored
		}
		return
	}
	defer func() { _ = resp.Body.Close() }()               // all that matters was read
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what a backend said to it; the head is what counts
	s.status, s.retry = resp.StatusCode, resp.Header.Get("Retry-After")
	if s.status >= 300 {
		s.text = string(text)
	}
	seq, err := strconv.ParseUint(resp.Header.Get("Skybus-Seq"), 10, 64)
	switch {
	case err == nil && seq > 0:
		s.Seq, s.stored = seq, accepted
		s.Lane, _ = strconv.Atoi(resp.Header.Get("Skybus-Lane")) // is compared with what the copies got
	case s.status == http.StatusInsufficientStorage, s.status >= 400 && s.status < 500, strings.Contains(s.text, `"stored":"no"`):
		s.stored = notStored
	}
}

// accepted is how many writes were accepted.
func (w *writers) accepted() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.good
}

// await returns after so many more were accepted.
func (w *writers) await(more int) {
	w.t.Helper()
	want := w.accepted() + more
	eventually(w.t, 2*patience, fmt.Sprintf("%d more writes were accepted", more), func() bool { return w.accepted() >= want })
}

// end lets each client finish its write and returns all there were.
func (w *writers) end() []sent {
	w.once.Do(func() { w.stop(); w.ended = time.Now() })
	w.wg.Wait()
	return w.all
}

// snapshot is all that have ended so far.
func (w *writers) snapshot() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// latencies are those of accepted writes.
type latencies struct {
	n                  int
	p50, p99, max, gap time.Duration
}

// latenciesOf looks at the accepted writes that ended between from and to; the gap is the longest time without one.
func latenciesOf(all []sent, from, to time.Time) latencies {
	var took []time.Duration
	ends := []time.Time{from, to}
	for _, s := range all {
		if s.stored == accepted && s.end.After(from) && s.end.Before(to) {
			took, ends = append(took, s.end.Sub(s.begin)), append(ends, s.end)
		}
	}
	slices.Sort(took)
	slices.SortFunc(ends, time.Time.Compare)
	l := latencies{n: len(took)}
	for i := 1; i < len(ends); i++ {
		l.gap = max(l.gap, ends[i].Sub(ends[i-1]))
	}
	if l.n > 0 {
		l.p50, l.p99, l.max = took[l.n/2], took[l.n*99/100], took[l.n-1]
	}
	return l
}

func (l latencies) String() string {
	r := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %v p99 %v max %v, longest gap %v", r(l.p50), r(l.p99), r(l.max), r(l.gap))
}

// statuses counts what clients were answered.
func statuses(all []sent) string {
	n := map[int]int{}
	for _, s := range all {
		n[s.status]++
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d x %d", n[status], status))
	}
	return strings.Join(parts, ", ")
}
