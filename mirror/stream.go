package mirror

import (
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	copySize    = 32 << 10
	writeStall  = 30 * time.Second // after which a client that takes nothing more is given up
	renewWrites = time.Second      // how often the time of a long answer is renewed
)

// copyAnswer passes on the answer of a backend as it comes.
func (m *Mirror) copyAnswer(w http.ResponseWriter, r *http.Request, a readAnswer) {
	h := w.Header()
	out := leftOut(a.header)
	for name, values := range a.header {
		if name == "Content-Length" || !out(name) {
			h[name] = values
		}
	}
	if len(a.trailers) > 0 {
		slices.Sort(a.trailers)
		h["Trailer"] = []string{strings.Join(a.trailers, ", ")}
	}
	guessNoType(h)
	w.WriteHeader(a.status)
	if r.Method == http.MethodHead {
		return
	}
	m.copyBody(w, a)
	for name, values := range a.trailer() {
		if out(name) {
			continue
		}
		if !slices.Contains(a.trailers, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copyBody passes on a body. Where it breaks off, so does the answer, by a panic that net/http knows.
func (m *Mirror) copyBody(w http.ResponseWriter, a readAnswer) {
	s := streamed{w: w, rc: http.NewResponseController(w), live: isLive(a), renewed: time.Now()}
	if s.live {
		s.flush()               // the client waits for the head
		s.deadline(time.Time{}) // it may be silent for as long as it likes
	}
	buf, _ := m.buffers.Get().(*[copySize]byte)
	if buf == nil {
		buf = new([copySize]byte)
	}
	defer m.buffers.Put(buf)
	for {
		n, err := a.body.Read(buf[:])
		if n > 0 && !s.write(buf[:n]) {
			panic(http.ErrAbortHandler)
		}
		switch {
		case err == io.EOF:
			return
		case err != nil:
			s.flush() // as far as it came
			panic(http.ErrAbortHandler)
		}
	}
}

// isLive tells whether what comes of a body is for the client at once.
func isLive(a readAnswer) bool {
	if a.length < 0 {
		return true
	}
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")) // what is none is not this one
	return media == "text/event-stream"
}

// streamed is an answer under way.
type streamed struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	live    bool
	renewed time.Time
}

// write passes on a part. False means that the client does not take it.
func (s *streamed) write(p []byte) bool {
	if now := time.Now(); s.live || now.Sub(s.renewed) > renewWrites {
		s.renewed = now
		s.deadline(now.Add(writeStall))
	}
	if _, err := s.w.Write(p); err != nil {
		return false
	}
	if s.live {
		s.flush()
		s.deadline(time.Time{})
	}
	return true
}

// Both fail where the server has no such thing, and then it is as good as done.
func (s *streamed) flush()               { _ = s.rc.Flush() }
func (s *streamed) deadline(t time.Time) { _ = s.rc.SetWriteDeadline(t) }
