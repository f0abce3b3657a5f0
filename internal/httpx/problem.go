package httpx

import (
	"encoding/json"
	"net/http"
)

// TypeProblem is the media type of a [Problem].
const TypeProblem = "application/problem+json"

// Problem is an error as RFC 9457 writes it, with our code and more beside.
type Problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail"`
	Code      string            `json:"code"`
	RequestID string            `json:"request_id,omitempty"`
	Errors    []FieldError      `json:"errors,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

// FieldError is what is wrong with one field of a request, named as a path such as target.uri.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Write answers with the problem, whose Status, Detail and Code are set; the caller has set headers of its own.
func (p Problem) Write(w http.ResponseWriter) {
	if p.Type == "" {
		p.Type = "about:blank"
	}
	if p.Title == "" {
		p.Title = statusTitle(p.Status)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	body, err := json.Marshal(p)
	if err != nil { // a struct of strings
		http.Error(w, p.Detail, p.Status)
		return
	}
	h.Set("Content-Type", TypeProblem)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client has gone
}

func statusTitle(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "Client Closed Request" // 499 has no name in net/http
}
