package http

import (
	"fmt"
	"net/http"
	"strings"
)

// isLost tells whether a request does not have a header any more when it is answered later: what proves who sends it, and what is about its connection.
func isLost(header string) bool {
	switch http.CanonicalHeaderKey(header) {
	case "Prefer", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length":
		return true
	}
	return isCredential(header)
}

// checkLater finds what an entry wants of requests that those which are answered later do not have any more.
func (e Entry) checkLater(f *faults) {
	f.take(e.CheckPlaceholders(func(name string) bool {
		kind, rest, _ := strings.Cut(name, ".")
		return kind != "cookie" && (kind != "header" || !isLost(rest))
	}, "something that is stored with a request that is answered later (async): no cookies and credentials, but {auth.id}, {claim.NAME} and other headers"))
	if e.Headers == nil {
		return
	}
	for i, name := range e.Headers.Forward {
		if isLost(name) {
			f.add(fmt.Sprintf("headers.forward[%d]", i), "%s is not stored with a request that is answered later (async)", name)
		}
	}
}
