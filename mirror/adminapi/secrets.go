package adminapi

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// HideSecrets is an HTTP message without the values of those fields, and of those parameters of a URL, whose names say that they log somebody in, and without the user of a
// URL. A secret by another name is shown, and so is one in the body.
func HideSecrets(message []byte) []byte {
	head, body, found := bytes.Cut(message, []byte("\r\n\r\n"))
	var b bytes.Buffer
	for i, line := range strings.Split(string(head), "\r\n") {
		if i == 0 {
			b.WriteString(hideInRequestLine(line))
			continue
		}
		b.WriteString("\r\n")
		name, value, isField := strings.Cut(line, ":")
		switch {
		case isField && isSecret(name):
			line = name + ": " + hidden
		case isField && isAddress(name):
			line = name + ":" + HideQuery(value)
		}
		b.WriteString(line)
	}
	if found {
		b.WriteString("\r\n\r\n")
		b.Write(body)
	}
	return b.Bytes()
}

// hideInRequestLine leaves what is none, as the line above an answer, as it is.
func hideInRequestLine(line string) string {
	parts := strings.Split(line, " ")
	if len(parts) != 3 {
		return line
	}
	parts[1] = HideQuery(parts[1])
	return strings.Join(parts, " ")
}

// HideQuery is a path, or a URL, without its user, and without the values of those parameters that log somebody in, by their names.
func HideQuery(target string) string {
	rest, fragment, hasFragment := strings.Cut(target, "#")
	rest, query, hasQuery := strings.Cut(rest, "?")
	user, path := cutUser(rest)
	path, parameters, hasParameters := strings.Cut(path, ";")
	shown := user + path
	if hasParameters {
		shown += ";" + hideValues(parameters, ";/")
	}
	if hasQuery {
		shown += "?" + hideValues(query, "&;")
	}
	if hasFragment {
		shown += "#" + hideValues(fragment, "&;?")
	}
	return shown
}

// cutUser is a URL up to its host, with the user and the password hidden, and the rest of it.
func cutUser(address string) (before, after string) {
	scheme, rest, found := strings.Cut(address, "//")
	if !found || strings.Contains(scheme, "/") {
		return "", address
	}
	host, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(host, '@')
	if at < 0 {
		return "", address
	}
	return scheme + "//" + hidden + "@", rest[at+1:]
}

// hideValues hides values of parameters, each of which one of the marks ends.
func hideValues(parameters, marks string) string {
	var b strings.Builder
	for parameters != "" {
		pair, after := parameters, ""
		if end := strings.IndexAny(parameters, marks); end >= 0 {
			pair, after = parameters[:end], parameters[end:end+1]
		}
		parameters = parameters[len(pair)+len(after):]
		if name, value, _ := strings.Cut(pair, "="); value != "" && isSecret(unescaped(name)) {
			pair = name + "=" + hidden
		}
		b.WriteString(pair + after)
	}
	return b.String()
}

// unescaped is a name as an application reads it; one that is not readable is as it is written.
func unescaped(name string) string {
	if plain, err := url.QueryUnescape(name); err == nil {
		return plain
	}
	return name
}

// isSecret tells by the name of a field, or of a parameter, whether its value logs somebody in.
func isSecret(name string) bool {
	name = strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(strings.TrimSpace(name)))
	switch name {
	case "cookie", "setcookie", "auth", "xauth", "pwd", "pass", "sig", "code", "otp", "sid", "session":
		return true
	}
	return slices.ContainsFunc([]string{
		"authorization", "token", "secret", "passw", "passphrase", "credential", "signature", "jwt", "apikey", "accesskey", "authkey", "privatekey", "sessionid", "sessid",
	}, func(word string) bool { return strings.Contains(name, word) })
}

// isAddress tells whether the value of a field is a URL.
func isAddress(name string) bool {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "referer", "location", "content-location":
		return true
	}
	return false
}
