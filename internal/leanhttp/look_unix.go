//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package leanhttp

import "syscall"

// looker looks at an idle connection without reading from it. The zero value sees nothing.
type looker struct {
	raw  syscall.RawConn
	seen *seen
}

// seen is what the last look saw.
type seen struct {
	quiet bool
	buf   [1]byte
	look  func(fd uintptr) bool // see, made once
}

func newLooker(raw syscall.RawConn) looker {
	s := &seen{}
	s.look = s.see
	return looker{raw, s}
}

func (s *seen) see(fd uintptr) bool {
	_, _, err := syscall.Recvfrom(int(fd), s.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	s.quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	return true // whatever it is, do not wait
}

// quiet tells whether the peer has neither closed the connection nor said anything on it.
func (l looker) quiet() bool {
	if l.raw == nil {
		return true
	}
	return l.raw.Read(l.seen.look) == nil && l.seen.quiet
}
