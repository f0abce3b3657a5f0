package micro

import (
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// FuzzInfo reads what a stranger says of its service: whatever that is, the subjects we would send to are plain.
func FuzzInfo(f *testing.F) {
	server, err := bustest.Open()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = server.Close() }) // removes what it can
	conn, err := bus.Connect(f.Context(), bus.Config{InProcess: server})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() }) // before the server
	for _, subject := range []string{"sums.add", "$JS.API.INFO", "a.*", "default.dev.svc.x.y", "_INBOX.x", "a b", "a..b", ".", ""} {
		f.Add(`{"type":"io.nats.micro.v1.info_response","name":"sums","endpoints":[{"name":"x","subject":"` + subject + `"}]}`)
	}
	f.Add(`{"name":"sums","endpoints":null}`)
	f.Add(`{"type":"io.nats.micro.v1.info_response","name":"sums","metadata":{"skybus.namespace":"a.b"}}`)
	f.Fuzz(func(t *testing.T, data string) {
		s := readInfo(conn, "sums", []byte(data))
		if s == nil {
			return
		}
		for name, e := range s.endpoints {
			subject := e.subject
			if subject == "" || len(subject) > mostForeignSub || strings.ContainsAny(subject, "*> \t\r\n\x00") || strings.Contains("."+subject+".", "..") {
				t.Errorf("endpoint %q has the subject %q", name, subject)
			}
			for _, prefix := range []string{"$", "_INBOX", "_R_", "skybus.", "default.dev."} {
				if strings.HasPrefix(subject, prefix) {
					t.Errorf("endpoint %q has the subject %q", name, subject)
				}
			}
		}
	})
}
