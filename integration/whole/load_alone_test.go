//go:build unix

package whole_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
)

// aloneFor is how long the load is on its own.
const aloneFor = 6 * time.Second

// TestLoadAlone lets the clients work with `skybus up`, and nothing fails.
func TestLoadAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	r := startSmall(t)
	j := newJournal()
	l := startLoad(t, t.Context(), r.sys, 1, j)
	time.Sleep(aloneFor) // it works
	l.stop()
	verdict(t, r.sys, j)
}

// startSmall starts everything in one process, the children, and what watches files.
func startSmall(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, programs: proctest.Programs(os.Getenv(programsVariable)), sys: &system{dir: t.TempDir(), drop: t.TempDir()}}
	r.sys.program = r.programs.Path("skybus")
	var backends, rest []*unit
	for i := range 3 {
		backends = append(backends, r.add(backendRole, i+1).as(child{Role: backendRole}))
	}
	r.run(backends...)
	r.sys.backends = urls(backends, "")
	up := r.add(serverKind, 1).by("up", "--nats", anywhere, "--http", anywhere, "--timers", anywhere, "--admin", anywhere, "--data", t.TempDir(),
		"--mirror", r.mirrorFile(), "--mirror-http", anywhere, "--mirror-admin", anywhere, "--allow-network", "127.0.0.0/8")
	r.run(up)
	ports := up.platform.Ports
	r.sys.servers, r.sys.gateways, r.sys.schedulers, r.sys.mirrors = []string{ports["nats"]}, []string{ports["http"]}, []string{ports["timers"]}, []string{ports["mirror"]}
	prepareLoad(t, r.sys)
	receiver := r.add(receiverRole, 1).as(child{Role: receiverRole, Mirrors: r.sys.mirrors})
	rest = append(rest, receiver, r.add(filesKind, 1).by("files", "-f", r.filesFile()))
	for _, name := range services() {
		for i := range 3 {
			u := r.add(serviceKind, i+1).as(child{Role: name, Schedulers: r.sys.schedulers})
			u.name = fmt.Sprintf("%s-%d", name, i+1)
			rest = append(rest, u)
		}
	}
	r.run(rest...)
	r.sys.receiver = receiver.url
	return r
}
