//go:build unix

package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// copyConfig is an application behind a mirror, one of several copies that know nothing of each other, run by this program in a process of its own.
// It keeps what is put at each path; POST adds to what is there, unless the Idempotency-Key is known. What it applies is in its log before it
// answers, and from that it has its content again when it is started once more. Below /-/ the test asks for its content and tells it how to fail.
type copyConfig struct {
	Listen string // address
	Log    string // file
	Base   string // file with the content it begins with, or nothing
	Faults faults
}

// faults are the ways in which a copy fails. Shares are of all writes.
type faults struct {
	Seed        uint64
	Unavailable float64       // answered 503, not applied
	Fail        float64       // answered 500, not applied
	Hang        float64       // not answered before HangFor is over, not applied
	HangFor     time.Duration //
	Cut         float64       // applied, and the connection is closed in the middle of the answer
	Delay       time.Duration // what every write takes before it is applied, unless who sent it has ended
	Stall       int           // so many of the next writes are applied and never answered
	Refuse      string        // path that is answered 400
}

// apply is a write as a copy applied it.
type apply struct {
	At     int64  `json:"at"` // Unix nanoseconds
	Seq    uint64 `json:"seq"`
	Lane   int    `json:"lane"`
	Key    string `json:"key"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Body   string `json:"body"`
	Hash   uint64 `json:"hash"` // of the body, as it came
	Cut    bool   `json:"cut"`  // it was not answered
}

func hashText(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// content is what a copy keeps.
type content struct {
	Values map[string]string `json:"values"`
	Known  map[string]bool   `json:"known"` // Idempotency-Keys of what was added
}

func newContent() content { return content{map[string]string{}, map[string]bool{}} }

func (c content) apply(a apply) {
	switch a.Method {
	case http.MethodDelete:
		delete(c.Values, a.Path)
	case http.MethodPost:
		if !c.Known[a.Key] {
			c.Known[a.Key] = true
			c.Values[a.Path] += a.Body + "\n"
		}
	default:
		c.Values[a.Path] = a.Body
	}
}

func (c content) equal(d content) bool { return maps.Equal(c.Values, d.Values) }

// copyMain is the process.
func copyMain(config string) (code int) {
	c := &appCopy{content: newContent()}
	err := json.Unmarshal([]byte(config), &c.copyConfig)
	if err == nil {
		err = c.run()
	}
	fmt.Fprintln(os.Stderr, "copy:", err)
	return 1
}

// appCopy is a copy in its own process.
type appCopy struct {
	copyConfig

	content content
	file    *os.File
	stalls  atomic.Int64

	mu  sync.Mutex
	rnd *rand.Rand
}

func (c *appCopy) run() error {
	if err := c.load(); err != nil {
		return err
	}
	c.set(c.Faults)
	l, err := net.Listen("tcp", c.Listen) //nolint:noctx // it succeeds or fails at once
	if err != nil {
		return err
	}
	fmt.Println("listening", l.Addr())
	return http.Serve(l, c) //nolint:gosec // only the test and the mirror are its clients
}

// load makes the content what it was. A line that was not written whole was not answered either.
func (c *appCopy) load() error {
	if c.Base != "" {
		data, err := os.ReadFile(c.Base)
		if err == nil {
			err = json.Unmarshal(data, &c.content)
		}
		if err != nil {
			return err
		}
	}
	data, err := os.ReadFile(c.Log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(whole) {
		var a apply
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		c.content.apply(a)
	}
	if c.file, err = os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	if err := c.file.Truncate(int64(len(whole))); err != nil {
		return err
	}
	_, err = c.file.Seek(int64(len(whole)), io.SeekStart)
	return err
}

func (c *appCopy) set(f faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Faults, c.rnd = f, rand.New(rand.NewPCG(f.Seed, f.Seed)) //nolint:gosec // for tests
	c.stalls.Store(int64(f.Stall))
}

// ServeHTTP applies writes.
func (c *appCopy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the connection broke
	}
	switch {
	case r.URL.Path == "/-/content":
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(c.content) // the test sees that it is cut off
	case r.URL.Path == "/-/faults":
		var f faults
		if err := json.Unmarshal(body, &f); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.set(f)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		c.mu.Lock()
		v, ok := c.content.Values[r.URL.Path]
		c.mu.Unlock()
		if !ok && r.URL.Path != "/" { // where its health is asked for
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, v) // the reader has gone
	default:
		c.write(w, r, string(body))
	}
}

func (c *appCopy) write(w http.ResponseWriter, r *http.Request, body string) {
	c.mu.Lock()
	f, dice := c.Faults, c.rnd.Float64()
	c.mu.Unlock()
	within := func(share float64) bool { dice -= share; return dice < 0 }
	time.Sleep(f.Delay) // it is slow
	if r.Context().Err() != nil {
		return // whoever sent it has ended
	}
	cut := false
	switch {
	case r.URL.Path == f.Refuse:
		http.Error(w, "refused", http.StatusBadRequest)
		return
	case within(f.Unavailable):
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case within(f.Fail):
		w.WriteHeader(http.StatusInternalServerError)
		return
	case within(f.Hang):
		time.Sleep(f.HangFor) // it hangs
		panic(http.ErrAbortHandler)
	case within(f.Cut):
		cut = true
	}
	if err := c.apply(r, body, cut); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if c.stalls.Load() > 0 && c.stalls.Add(-1) >= 0 {
		fmt.Println("stalled")
		select {} // until it is killed
	}
	w.Header().Set("X-Applied", "yes")
	if cut {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "so far") // and no more
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+"\n") // whoever sent it may have ended
}

// apply applies a write, and logs it first.
func (c *appCopy) apply(r *http.Request, body string, cut bool) error {
	a := apply{Key: r.Header.Get("Idempotency-Key"), Method: r.Method, Path: r.URL.Path, Body: body, Hash: hashText(body), Cut: cut}
	var err error
	if a.Seq, err = strconv.ParseUint(r.Header.Get("Skybus-Seq"), 10, 64); err != nil {
		return err
	}
	if a.Lane, err = strconv.Atoi(r.Header.Get("Skybus-Lane")); err != nil {
		return err
	}
	if len(a.Body) > 1000 { // the file is read again and again
		a.Body = a.Body[:100] + "..."
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.At = time.Now().UnixNano()
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := c.file.Write(append(line, '\n')); err != nil {
		return err
	}
	c.content.apply(a)
	return nil
}
