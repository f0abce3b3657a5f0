package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	eofTimeout = 500 * time.Millisecond // for what is still in the pipes of a copy that ended
	groupPoll  = 20 * time.Millisecond
)

// slot is the place of one copy, which processes fill one after the other.
type slot struct {
	s     *Supervisor
	name  string
	out   prefix
	err   prefix
	pause pause

	current atomic.Pointer[process] // nil between two processes

	// Of the last process, read when run has returned.
	last   error
	forced bool
}

// process is one that fills a slot.
type process struct {
	Child
	cmd     *exec.Cmd
	ended   chan error    // its exit status
	eof     chan struct{} // closed when all it wrote was read
	pipes   [2]*os.File   // where that is read
	replace chan string   // why it is to be replaced
}

// errHung is how a process ended that was replaced.
var errHung = errors.New("hung")

func nameOf(program string) string {
	return strings.TrimSuffix(filepath.Base(program), ".exe")
}

func newSlot(s *Supervisor, i, width int) *slot {
	name := fmt.Sprintf("%s.%d", s.cfg.Name, i+1)
	return &slot{
		s: s, name: name, pause: pause{most: s.cfg.BackoffMax},
		out: newPrefix(name, i, width, s.cfg.StdoutColor), err: newPrefix(name, i, width, s.cfg.StderrColor),
	}
}

func (sl *slot) run(ctx context.Context) {
	log := sl.s.log.With("instance", sl.name)
	for !sl.stopping(ctx) {
		begin := time.Now()
		sl.last = sl.once(ctx)
		if sl.stopping(ctx) {
			log.InfoContext(ctx, "stopped", "status", status(sl.last))
			return
		}
		if !errors.Is(sl.last, errHung) && (sl.s.cfg.Restart == Never || sl.s.cfg.Restart == OnFailure && sl.last == nil) {
			log.InfoContext(ctx, "ended", "status", status(sl.last), "restart", sl.s.cfg.Restart)
			return
		}
		wait := sl.pause.next(begin, time.Now())
		if count, within := sl.pause.loop(time.Now()); count > 0 {
			log.WarnContext(ctx, "exits again and again", "exits", count, "within", within.String(), "last", status(sl.last),
				"next_try", wait.String())
		} else if !errors.Is(sl.last, errHung) { // which was told
			log.WarnContext(ctx, "exited, will be started again", "status", status(sl.last), "next_try", wait.String())
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-sl.s.killed:
		}
		timer.Stop()
	}
}

func (sl *slot) stopping(ctx context.Context) bool {
	select {
	case <-sl.s.killed:
		return true
	default:
		return ctx.Err() != nil
	}
}

// status is how a process ended, in words.
func status(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// once runs one process to its end.
func (sl *slot) once(ctx context.Context) error {
	p, err := sl.start(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	sl.current.Store(p)
	defer sl.current.Store(nil)
	sl.s.log.InfoContext(ctx, "started", "instance", sl.name, "pid", p.PID)
	select {
	case err = <-p.ended:
	case reason := <-p.replace:
		sl.s.log.WarnContext(ctx, "hung, is replaced", "instance", sl.name, "pid", p.PID, "reason", reason)
		killGroup(p.cmd.Process)
		err = fmt.Errorf("%w: %s: %s", errHung, reason, status(<-p.ended))
	case <-ctx.Done():
		err = sl.stop(p)
	case <-sl.s.killed:
		err = sl.stop(p)
	}
	killGroup(p.cmd.Process) // what it left behind
	select {
	case <-p.eof:
	case <-time.After(eofTimeout): // held open by who left the group
		for _, r := range p.pipes {
			_ = r.SetReadDeadline(time.Now()) // it may be closed
		}
	}
	return err
}

// start starts a process and reads what it writes.
func (sl *slot) start(ctx context.Context) (*process, error) {
	var pipes [2]struct{ r, w *os.File }
	closeAll := func() {
		for _, p := range pipes {
			_, _ = p.r.Close(), p.w.Close() // nil is none
		}
	}
	for i := range pipes {
		var err error
		if pipes[i].r, pipes[i].w, err = os.Pipe(); err != nil {
			closeAll()
			return nil, err
		}
	}
	// Not ended with ctx but as stop does it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), sl.s.path, sl.s.cfg.Command[1:]...)
	cmd.Args[0] = sl.s.cfg.Command[0]
	cmd.Env = sl.s.cfg.Env
	if v := sl.s.cfg.NameVariable; v != "" {
		if cmd.Env == nil {
			cmd.Env = os.Environ()
		}
		cmd.Env = append(slices.Clip(cmd.Env), v+"="+sl.name)
	}
	cmd.Stdout, cmd.Stderr = pipes[0].w, pipes[1].w
	cmd.SysProcAttr = processAttributes()
	begin := time.Now()
	if err := sl.s.start(cmd); err != nil {
		closeAll()
		return nil, err
	}
	p := &process{
		Child: Child{sl.name, cmd.Process.Pid, begin}, cmd: cmd,
		ended: make(chan error, 1), eof: make(chan struct{}), replace: make(chan string, 1),
	}
	var reading sync.WaitGroup
	for i, to := range []struct {
		w prefix
		f func([]byte)
	}{{sl.out, sl.s.merge.to(sl.s.cfg.Stdout)}, {sl.err, sl.s.merge.to(sl.s.cfg.Stderr)}} {
		_ = pipes[i].w.Close() // the process has its own
		p.pipes[i] = pipes[i].r
		reading.Go(func() {
			to.w.copyLines(pipes[i].r, to.f)
			_ = pipes[i].r.Close()
		})
	}
	go func() { // ends when nobody holds the pipes any more
		reading.Wait()
		close(p.eof)
	}()
	go func() { p.ended <- cmd.Wait() }() // once waits for it
	return p, nil
}

// stop asks a process to end, and then what it leaves behind, and kills who still runs when the time is over.
func (sl *slot) stop(p *process) error {
	late := time.NewTimer(sl.s.cfg.StopTimeout)
	defer late.Stop()
	terminate(p.cmd.Process)
	var err error
	select {
	case err = <-p.ended:
	case <-late.C:
		return sl.force(p)
	case <-sl.s.killed:
		return sl.force(p)
	}
	terminateGroup(p.PID)
	poll := time.NewTicker(groupPoll)
	defer poll.Stop()
	for groupAlive(p.PID) {
		select {
		case <-p.eof: // who still runs writes nothing, or is a zombie that nobody waits for
			return err
		case <-poll.C:
		case <-late.C:
			sl.forced = true
			return err
		case <-sl.s.killed:
			sl.forced = true
			return err
		}
	}
	return err
}

func (sl *slot) force(p *process) error {
	killGroup(p.cmd.Process)
	err := <-p.ended
	sl.forced = true
	return err
}
