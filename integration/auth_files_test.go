//go:build unix

package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
	"github.com/skybus-io/skybus/micro"
)

// TestFilesUnderRole sends the records of files with nothing but the rights of a gateway.
func TestFilesUnderRole(t *testing.T) {
	t.Parallel()
	twice(t, filesUnderRole)
}

func filesUnderRole(t *testing.T, s *secured) {
	t.Helper()
	noted := make(chan string, 16)
	serveTickets(t, s.service(t, "orders"), "orders", "o1", noted)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("{\"text\":\"one\"}\nnot JSON\n{\"text\":\"two\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conn := s.part(t, auth.Gateway)
	target, err := initiators.Sources{Client: newClient(t, conn, micro.ClientConfig{Name: "files"})}.Target(initiators.Spec{Call: "orders.note"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := file.Config{Name: "tickets", Dir: dir, Format: file.NDJSON, Quiet: 20 * time.Millisecond, After: file.Leave, Once: true}
	if s.account != nil { // roles bind buckets, they make none
		if made, err := file.New(s.part(t, auth.Gateway), target, cfg); err != nil || made.Run(t.Context()) == nil {
			t.Errorf("it ran without its bucket: %v", err)
		}
	}
	none := cfg
	none.Name, none.Dir = "none", t.TempDir()
	if first, err := file.New(s.admin(t, "shop.prod"), target, none); err != nil || first.Run(t.Context()) != nil {
		t.Fatalf("the admin's: %v", err)
	}
	source, err := file.New(conn, target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := source.Run(ctx); err != nil {
		t.Fatal(err)
	}
	heard(t, noted, "one")
	heard(t, noted, "two")
	all, err := file.List(t.Context(), conn)
	if err != nil || len(all) != 2 || len(all[1].Files) != 1 || !all[1].Files[0].Done || all[1].Files[0].Refused != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	harmless(t, conn)
}
