package bus

import (
	"strings"

	"github.com/nats-io/nats.go"
)

// Limits of the headers that a program adds to a message.
const (
	MaxHeaders     = 64      // values
	MaxHeaderBytes = 8 << 10 // of all names and values together
	maxHeaderName  = 64
)

// CheckHeader tells whether a program may add h to a message: names of 1 to 64 characters of A-Z a-z 0-9 - _ . that are not
// the envelope's or NATS's own, at most 64 values without line breaks and NUL, and 8 KiB in all. The error has the code
// [InvalidArgument].
func CheckHeader(h nats.Header) error {
	values, size := 0, 0
	for name, list := range h {
		if !validHeaderName(name) {
			return Errorf(InvalidArgument, "header %.80q: want a name of 1 to %d characters of A-Z a-z 0-9 - _ .", name, maxHeaderName)
		}
		if reservedHeader(name) {
			return Errorf(InvalidArgument, "header %q is reserved: names that begin with Skybus- or Nats-, Content-Type and traceparent are", name)
		}
		for _, v := range list {
			if strings.ContainsAny(v, "\r\n\x00") {
				return Errorf(InvalidArgument, "header %q has a value with a line break or NUL", name)
			}
			values++
			size += len(name) + len(v)
		}
	}
	if values > MaxHeaders || size > MaxHeaderBytes {
		return Errorf(InvalidArgument, "headers: %d values of %d bytes: want at most %d of %d", values, size, MaxHeaders, MaxHeaderBytes)
	}
	return nil
}

// UserHeader is those headers of a received message that a program added, nil when there are none. The values are shared with
// the message.
func UserHeader(h nats.Header) nats.Header {
	var user nats.Header
	for name, list := range h {
		if reservedHeader(name) {
			continue
		}
		if user == nil {
			user = nats.Header{}
		}
		user[name] = list
	}
	return user
}

func validHeaderName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return name != "" && len(name) <= maxHeaderName
}

// reservedHeader tells whether the envelope or NATS means something by the name, in whatever case it is written.
func reservedHeader(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "skybus-") || strings.HasPrefix(lower, "nats-") ||
		lower == "content-type" || lower == "traceparent" || lower == "status" || lower == "description"
}
