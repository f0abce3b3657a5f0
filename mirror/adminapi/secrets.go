package adminapi

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// HideSecrets is an HTTP message without the values of the fields, and of the query's parameters, that log somebody in.
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

// HideQuery is a path, or a URL, with its query, without the values of those parameters that log somebody in, by their names.
func HideQuery(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found {
		return target
	}
	query, fragment, _ := strings.Cut(query, "#")
	var b strings.Builder
	b.WriteString(path + "?")
	for query != "" {
		pair, after := query, ""
		if end := strings.IndexAny(query, "&;"); end >= 0 {
			pair, after = query[:end], query[end:end+1]
		}
		query = query[len(pair)+len(after):]
		if name, value, _ := strings.Cut(pair, "="); value != "" && isSecret(unescaped(name)) {
			pair = name + "=" + hidden
		}
		b.WriteString(pair + after)
	}
	if fragment != "" {
		b.WriteString("#" + fragment)
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
	name = strings.ToLower(strings.TrimSpace(name))
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "auth", "pwd", "pass", "sig":
		return true
	}
	return slices.ContainsFunc([]string{"token", "secret", "passw", "passphrase", "credential", "signature", "apikey", "api_key", "api-key"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// isAddress tells whether the value of a field is a URL.
func isAddress(name string) bool {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "referer", "location", "content-location":
		return true
	}
	return false
}
