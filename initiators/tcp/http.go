package tcp

import (
	"bytes"

	"github.com/skybus-io/skybus/bus"
)

// longURL is how many bytes without a line's end make up for one that would tell what they are.
const longURL = 1 << 10

// isHTTP tells whether a connection begins as an HTTP request does. A web page can make a browser send one to any port of its machine, with a body of the page's
// choosing, of which each line would be a frame.
func isHTTP(begin []byte) bool {
	method, rest, ok := bytes.Cut(begin, []byte{' '})
	if !ok || len(rest) == 0 || rest[0] != '/' && rest[0] != '*' {
		return false
	}
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PRI":
	default:
		return false
	}
	line, _, whole := bytes.Cut(rest, []byte{'\n'})
	if !whole {
		return len(rest) >= longURL
	}
	line = bytes.TrimSuffix(line, []byte{'\r'})
	i := bytes.LastIndexByte(line, ' ')
	return i >= 0 && bytes.HasPrefix(line[i+1:], []byte("HTTP/"))
}

// refuseHTTP refuses what isHTTP finds.
func (c *conn) refuseHTTP() error {
	begin, err := c.br.Peek(c.br.Buffered())
	if err != nil || !isHTTP(begin) {
		return err
	}
	return bus.Wrap(bus.InvalidArgument, "this port does not speak HTTP", errHTTP)
}
