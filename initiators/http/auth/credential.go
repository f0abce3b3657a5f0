package auth

import (
	"net/http"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// maxCredential is the longest credential that is looked at, in bytes. Listeners refuse headers of 16 KiB.
const maxCredential = 8 << 10

// invalid is all that is told of what is wrong with a credential.
const invalid = "the credential is not valid"

// refuse is the answer to a credential that is wrong. cause is for the log and must not hold it.
func refuse(message string, cause error) *bus.Error {
	return bus.Wrap(bus.Unauthenticated, message, cause)
}

// bearer is the token in Authorization. False means that there is none of this scheme. What is there and cannot be one is an
// empty token.
func bearer(r *http.Request) (string, bool) {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimLeft(token, " ")
	if len(token) > maxCredential || !token68(token) {
		return "", true
	}
	return token, true
}

// token68 is what RFC 9110 (section 11.2) lets such a token be.
func token68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return body != ""
}
