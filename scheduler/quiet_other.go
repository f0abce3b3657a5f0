//go:build !unix

package scheduler

import "net"

// quiet tells whether a connection that nothing is expected from is open, and nothing came: here it is found out by using it.
func quiet(net.Conn) bool { return true }
