package http

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

const (
	headerTraceparent = "Traceparent"
	traceparentLength = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
)

// childTrace is the traceparent of what is done for a request: the trace of the client with a span of the gateway's own. It is empty where
// the client sent none, or one that is malformed, which W3C's Trace Context has us ignore.
func childTrace(h http.Header) string {
	v := h[headerTraceparent]
	if len(v) != 1 || !validTrace(v[0]) {
		return ""
	}
	var span [8]byte
	_, _ = rand.Read(span[:]) // never fails
	parent := v[0][:traceparentLength]
	b := make([]byte, 0, traceparentLength)
	b = append(b, "00"...)
	b = append(b, parent[2:36]...)
	b = hex.AppendEncode(b, span[:])
	b = append(b, parent[52:]...)
	return string(b)
}

// validTrace takes version 00, and of later ones what 00 knows.
func validTrace(s string) bool {
	if len(s) < traceparentLength || len(s) > traceparentLength && (s[:2] == "00" || s[traceparentLength] != '-' || len(s) > 512) {
		return false
	}
	for i := range traceparentLength {
		c := s[i]
		if dash := i == 2 || i == 35 || i == 52; dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s[:2] != "ff" && strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// traceID is the id of the trace in a traceparent, empty for none.
func traceID(traceparent string) string {
	if traceparent == "" {
		return ""
	}
	return traceparent[3:35]
}
