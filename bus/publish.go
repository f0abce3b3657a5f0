package bus

import "strings"

// MaxSubject is how many characters a subject may have that comes from outside.
const MaxSubject = 255

// IsSubject tells whether s can be a subject to publish to: at most [MaxSubject] characters, in tokens of 1 to [MaxToken] of
// A-Z a-z 0-9 _ - = with dots between.
func IsSubject(s string) bool {
	if len(s) > MaxSubject {
		return false
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || len(token) > MaxToken || strings.ContainsFunc(token, notInSubjectToken) {
			return false
		}
	}
	return true
}

func notInSubjectToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '='
}

// CheckFree refuses subjects that are NATS's or skybus's own (PermissionDenied). What outsiders may name as a place to publish to
// is checked by it, whatever else the configuration allows: they would otherwise act with the rights of who publishes for them.
func (c *Conn) CheckFree(subject string) error {
	tokens := strings.Split(subject, ".")
	own := strings.HasPrefix(subject, c.Namespace().String()+".")
	switch {
	case strings.HasPrefix(subject, "$"), tokens[0] == "_INBOX", tokens[0] == "_R_", tokens[0] == "skybus", c.IsInbox(subject):
		return Errorf(PermissionDenied, "subject %q is NATS's or skybus's own, and never a target", subject)
	case len(tokens) >= 3 && (own || len(tokens) >= 5): // shorter ones of others are nothing of skybus's
		switch tokens[2] {
		case "svc", "ver", "one", "inst", "all", "ctl", "ev":
			return Errorf(PermissionDenied, "subject %q is where services of skybus listen: call them instead", subject)
		}
	}
	return nil
}
