package http

import (
	"strconv"
	"strings"
	"time"
)

const maxPreferWait = 30 * time.Second

// preferences are those of RFC 7240 that the gateway knows.
type preferences struct {
	async bool          // respond-async
	wait  time.Duration // at most 30 s; 0 means not at all
}

// parsePrefer reads the header Prefer. What it does not understand it leaves out, as it is preferred only; of a preference that is there twice the
// first counts.
func parsePrefer(values []string) (p preferences) {
	seen := map[string]bool{}
	for rest, more := strings.Join(values, ","), true; more; {
		var element string
		element, rest, more = cutQuoted(rest, ',')
		preference, _, _ := cutQuoted(element, ';') // what follows are its parameters
		name, value, _ := strings.Cut(preference, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "respond-async":
			p.async = value == ""
		case "wait":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				p.wait = min(time.Duration(n)*time.Second, maxPreferWait)
			}
		}
	}
	return p
}

// cutQuoted is strings.Cut at a separator that is not within quotes.
func cutQuoted(s string, separator byte) (before, after string, found bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
