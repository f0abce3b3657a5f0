package mirror

import (
	"net/http"
	"strconv"
	"strings"
)

// minimum is what a backend must have applied to serve a read.
type minimum struct {
	seq  uint64
	lane int // negative: all lanes must have come that far
}

// met tells whether a backend has applied what a read asks for.
func (n *nodeState) met(want minimum) bool {
	if want.lane < 0 {
		return n.floor.Load() >= want.seq
	}
	return n.applied(want.lane, want.seq)
}

// parseMinimum reads the number of a write and, if there is one, that of its lane.
func (m *Mirror) parseMinimum(seq, lane string) (minimum, bool) {
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return minimum{}, false
	}
	if lane == "" {
		return minimum{n, -1}, true
	}
	l, err := strconv.Atoi(lane)
	if err != nil || l < 0 || l >= m.cfg.Lanes {
		return minimum{}, false
	}
	return minimum{n, l}, true
}

// cookie is what the cookie of a request says, if it says anything.
func (m *Mirror) cookie(r *http.Request) (minimum, bool) {
	if m.cfg.Cookie == "" {
		return minimum{}, false
	}
	c, err := r.Cookie(m.cfg.Cookie)
	if err != nil {
		return minimum{}, false
	}
	seq, lane, _ := strings.Cut(c.Value, ".")
	return m.parseMinimum(seq, lane)
}

// setCookie makes the reads that follow a write obey it. A cookie holds one write: where the client's last one was in another lane, and some backend may
// lack it, it names no lane, and stands for all writes up to the last.
func (m *Mirror) setCookie(w http.ResponseWriter, r *http.Request, a accepted) {
	if m.cfg.Cookie == "" {
		return
	}
	value := strconv.FormatUint(a.seq, 10)
	before, ok := m.cookie(r)
	if ok && before.seq > a.seq { // a repeat of an older one
		return
	}
	if !ok || before.lane == a.lane || m.appliedByAll(before) {
		value += "." + strconv.Itoa(a.lane)
	}
	http.SetCookie(w, &http.Cookie{Name: m.cfg.Cookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: m.isSecure(r)})
}

// dropCookie makes a client forget a cookie that speaks of a write that there is not.
func (m *Mirror) dropCookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: m.cfg.Cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: m.isSecure(r)})
}

// appliedByAll tells whether every backend that may serve reads has applied a write.
func (m *Mirror) appliedByAll(want minimum) bool {
	for _, n := range *m.nodes.Load() {
		if n.Active && !n.met(want) {
			return false
		}
	}
	return true
}
