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
func (m *Mirror) copyAnswer(w http.ResponseWriter, r *http.Request, resp *http.Response) {
	h := w.Header()
	out := leftOut(resp.Header)
	for name, values := range resp.Header {
		if !out(name) || name == "Content-Length" {
			h[name] = values
		}
	}
	announced := len(resp.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range resp.Trailer {
			names = append(names, name)
		}
		slices.Sort(names)
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	w.WriteHeader(resp.StatusCode)
	if r.Method != http.MethodHead {
		m.copyBody(w, resp)
	}
	for name, values := range resp.Trailer {
		if len(resp.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copyBody passes on a body. Where it breaks off, so does the answer, by a panic that net/http knows.
func (m *Mirror) copyBody(w http.ResponseWriter, resp *http.Response) {
	s := streamed{w: w, rc: http.NewResponseController(w), live: isLive(resp), renewed: time.Now()}
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
		n, err := resp.Body.Read(buf[:])
		if n > 0 && !s.write(buf[:n]) {
			panic(http.ErrAbortHandler)
		}
		switch {
		case err == io.EOF: //nolint:errorlint // as io.Reader has it
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}

// isLive tells whether what comes of a body is for the client at once.
func isLive(resp *http.Response) bool {
	if resp.ContentLength < 0 {
		return true
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what is none is not this one
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
