package bus

import (
	"strings"
	"testing"
)

func TestParseViolation(t *testing.T) {
	t.Parallel()
	const prefix = "nats: permissions violation: Permissions Violation for "
	tests := []struct {
		text, op, subject string
	}{
		{prefix + `Publish to "a.b"`, opPublish, "a.b"},
		{prefix + `Publish to "a\"b Subscription to \"c"`, opPublish, `a"b Subscription to "c`},
		{prefix + `Subscription to "a.*"`, opSubscribe, "a.*"},
		{prefix + `Subscription to "a.>" using queue "q q"`, opSubscribe, "a.>"},
		{prefix + `Subscription to "a" (sid "12")`, opSubscribe, "a"},
		{prefix + `Subscription to "a.b.c", too many tokens`, opSubscribe, "a.b.c"},
		{prefix + `Publish to "\x00\u00fc"`, opPublish, "\x00ü"},
		{prefix + `Publish with Reply of "a.b"`, "", ""},
		{prefix + `Publish to a.b`, "", ""},
		{prefix + `Publish to "a.b`, "", ""},
		{prefix, "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		op, subject, ok := parseViolation(tt.text)
		if op != tt.op || subject != tt.subject || ok != (tt.op != "") {
			t.Errorf("%q: %q %q %v", tt.text, op, subject, ok)
		}
	}
}

func FuzzParseViolation(f *testing.F) {
	f.Add(`Permissions Violation for Publish to "a.b"`)
	f.Add(`Permissions Violation for Subscription to "a" using queue "q"`)
	f.Fuzz(func(t *testing.T, text string) {
		op, subject, ok := parseViolation(text)
		if !ok && op+subject != "" || ok && !strings.Contains(text, "Violation for "+op+" to ") {
			t.Errorf("%q: %q %q %v", text, op, subject, ok)
		}
	})
}

// What a request to a subject that was answered before pays for being told of refusals.
func BenchmarkAllowed(b *testing.B) {
	const subject = "default.dev.svc.orders.get"
	p := newDenials().proven.Load()
	p.add(subject)
	b.ReportAllocs()
	for b.Loop() {
		if !p.has(subject) {
			b.Fatal("not allowed")
		}
	}
}
