//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package leanhttp

import "syscall"

// looker cannot look here: a connection that the peer has closed is found out by its use.
type looker struct{}

func newLooker(syscall.RawConn) looker { return looker{} }

func (looker) quiet() bool { return true }
