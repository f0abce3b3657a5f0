// Package supervise keeps copies of a program running: it starts those that ended again, kills and replaces those that it is
// told are hung, merges what they write, and stops all of them in order.
//
// Each copy has a process group of its own on Unix, so that what it started ends with it. If the supervisor itself is killed
// (kill -9), Linux and FreeBSD kill the copies at once, though not what they started. Elsewhere they go on: macOS and the other
// systems have nothing for it, nor has Windows without a job object. On Windows there are no groups and no SIGTERM either:
// a copy is ended at once, and what it started goes on.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Restart says which copies are started again when they end.
type Restart string

// The policies of restart.
const (
	Always    Restart = "always"     // whatever the exit status
	OnFailure Restart = "on-failure" // unless it is 0
	Never     Restart = "never"
)

// Bounds and defaults of a Config.
const (
	MaxCount           = 256
	DefaultBackoffMax  = 30 * time.Second
	MinBackoffMax      = 100 * time.Millisecond
	DefaultStopTimeout = 15 * time.Second
)

// Config says what to run. Command is required.
type Config struct {
	// Command is the program and its arguments. A program without a slash is looked for in PATH.
	Command []string
	// Name names the copies: Name.1, Name.2 and so on; a copy that is started again keeps its name. Empty means the program.
	Name string
	// Count is how many copies to run, 1 to 256. 0 means 1.
	Count int
	// Env is the environment of the copies. Nil means that of this process.
	Env []string
	// NameVariable is the environment variable that tells each copy its name. Empty means none.
	NameVariable string
	// Restart says when to start a copy again. Empty means Always.
	Restart Restart
	// BackoffMax bounds the wait before a copy is started again that keeps ending soon. 0 means 30 s, else at least 100 ms.
	BackoffMax time.Duration
	// StopTimeout is how long a copy may take to stop before it is killed. 0 means 15 s.
	StopTimeout time.Duration
	// Stdout and Stderr get the lines of all copies, the name in front. Nil means discard. Both are written to by one at a
	// time, so they may be the same.
	Stdout, Stderr io.Writer
	// StdoutColor and StderrColor give the names of copies colors.
	StdoutColor, StderrColor bool
	// Logger hears of starts and ends. Nil means discard.
	Logger *slog.Logger
}

// Child is a copy that runs.
type Child struct {
	Name    string
	PID     int
	Started time.Time // not later than anything it does
}

// Owns tells whether a process of this machine is the copy or, on Unix, was started by it and is in its group.
func (c Child) Owns(pid int) bool { return pid == c.PID || pid > 0 && inGroup(pid, c.PID) }

// Supervisor runs the copies of one program.
type Supervisor struct {
	cfg    Config
	path   string
	log    *slog.Logger
	merge  *merger
	slots  []*slot
	begun  atomic.Bool   // Run was called
	killed chan struct{} // closed by Kill
	kill   sync.Once
	forks  chan func() // run on one thread that lives as long as the copies
}

// New checks cfg. Nothing is started before [Supervisor.Run].
func New(cfg Config) (*Supervisor, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, errors.New("supervise: command is empty")
	}
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, fmt.Errorf("supervise: %w", err)
	}
	if cfg.Name == "" {
		cfg.Name = nameOf(cfg.Command[0])
	}
	cfg.Count = orDefault(cfg.Count, 1)
	cfg.Restart = orDefault(cfg.Restart, Always)
	cfg.BackoffMax = orDefault(cfg.BackoffMax, DefaultBackoffMax)
	cfg.StopTimeout = orDefault(cfg.StopTimeout, DefaultStopTimeout)
	switch {
	case cfg.Count < 1 || cfg.Count > MaxCount:
		return nil, fmt.Errorf("supervise: count %d: want 1 to %d", cfg.Count, MaxCount)
	case !slices.Contains([]Restart{Always, OnFailure, Never}, cfg.Restart):
		return nil, fmt.Errorf("supervise: restart %q: want always, on-failure or never", cfg.Restart)
	case cfg.BackoffMax < MinBackoffMax:
		return nil, fmt.Errorf("supervise: backoff max %v: want at least %v", cfg.BackoffMax, MinBackoffMax)
	case cfg.StopTimeout < 0:
		return nil, fmt.Errorf("supervise: stop timeout %v: want 0 or more", cfg.StopTimeout)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Supervisor{
		cfg:    cfg,
		path:   path,
		log:    cfg.Logger.With("component", "supervise"),
		merge:  &merger{},
		killed: make(chan struct{}),
		forks:  make(chan func()),
	}
	width := len(fmt.Sprintf("%s.%d", cfg.Name, cfg.Count))
	for i := range cfg.Count {
		s.slots = append(s.slots, newSlot(s, i, width))
	}
	return s, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Run starts the copies and keeps them running until ctx ends. Then each is sent SIGTERM, and killed when it still runs after
// StopTimeout. Run returns when all have ended: with nil when ctx ended it and none had to be killed, or when every copy ended
// well and was not to be started again; else with an error that says which did not. Run can be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	if !s.begun.CompareAndSwap(false, true) {
		return errors.New("supervise: Run was called before")
	}
	var forking, running sync.WaitGroup
	forking.Go(s.fork)
	for _, sl := range s.slots {
		running.Go(func() { sl.run(ctx) })
	}
	running.Wait()
	close(s.forks)
	forking.Wait()
	var errs []error
	for _, sl := range s.slots {
		switch {
		case sl.forced:
			errs = append(errs, fmt.Errorf("supervise: %s had to be killed", sl.name))
		case ctx.Err() == nil && sl.last != nil:
			errs = append(errs, fmt.Errorf("supervise: %s: %w", sl.name, sl.last))
		}
	}
	return errors.Join(errs...)
}

// fork starts processes on one thread. Linux takes the end of a thread for the end of its process when it kills the children
// of who died, and Go may end a thread.
func (s *Supervisor) fork() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for f := range s.forks {
		f()
	}
}

// start starts a process.
func (s *Supervisor) start(cmd *exec.Cmd) error {
	done := make(chan error)
	s.forks <- func() { done <- cmd.Start() }
	return <-done
}

// Kill ends all copies at once and for good, so that Run returns soon. It may be called at any time, and again.
func (s *Supervisor) Kill() { s.kill.Do(func() { close(s.killed) }) }

// Running are the copies that run now.
func (s *Supervisor) Running() []Child {
	var children []Child
	for _, sl := range s.slots {
		if p := sl.current.Load(); p != nil {
			children = append(children, p.Child)
		}
	}
	return children
}

// Replace kills a copy that is hung and starts it again, whatever the policy. It tells whether that copy still ran.
func (s *Supervisor) Replace(c Child, reason string) bool {
	for _, sl := range s.slots {
		if p := sl.current.Load(); p != nil && p.Child == c {
			select {
			case p.replace <- reason:
				return true
			default: // was told before
			}
		}
	}
	return false
}
