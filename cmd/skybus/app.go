package main

import (
	"context"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/skybus-io/skybus/bus"
)

// App is what every command is given: the flags all of them have, where to read and write, and a logger.
type App struct {
	*globals

	stdin          io.Reader
	stdout, stderr io.Writer

	started time.Time       // when the program did
	log     *slog.Logger    // set before a command runs
	level   *slog.LevelVar  // of log
	command string          // as typed, such as "routes put"
	given   map[string]bool // flags that stood on the command line, by name
}

// daemon marks a command that keeps running: it logs from info on.
type daemon interface{ daemon() }

func (a *App) invoke(ctx context.Context, kctx *kong.Context) error {
	a.given = map[string]bool{}
	for _, p := range kctx.Path {
		if p.Flag != nil {
			a.given[p.Flag.Name] = true
		}
	}
	node := kctx.Selected()
	a.command = commandPath(node)
	if a.Timeout <= 0 {
		return usagef("--timeout %v: want more than 0", a.Timeout)
	}
	level := slog.LevelWarn
	if _, ok := reflect.TypeAssert[daemon](node.Target.Addr()); ok {
		level = slog.LevelInfo
		room := uint64(gcRoom)
		if thrifty, ok := reflect.TypeAssert[interface{ gcRoom() uint64 }](node.Target.Addr()); ok {
			room = thrifty.gcRoom()
		}
		defer tuneGC(room)()
	}
	stop, err := a.openLog(level)
	if err != nil {
		return err
	}
	defer stop()
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(a)
	return kctx.Run()
}

// commandPath is a command as it is typed. Kong's own path has the aliases in it.
func commandPath(node *kong.Node) string {
	names := []string{node.Name}
	for up := node.Parent; up != nil && up.Type == kong.CommandNode; up = up.Parent {
		names = append([]string{up.Name}, names...)
	}
	return strings.Join(names, " ")
}

// Connect connects to NATS as flags, environment and NATS context say. The caller closes the connection.
func (a *App) Connect(ctx context.Context) (*bus.Conn, error) { return a.connectStore(ctx, 0) }

// connectStore is Connect to servers whose JetStream store has that many bytes, 0 for what the account says.
func (a *App) connectStore(ctx context.Context, size int64) (*bus.Conn, error) {
	cfg, err := a.busConfig()
	if err != nil {
		return nil, err
	}
	cfg.Store = size
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg)
	if bus.CodeOf(err) == bus.InvalidArgument { // what it has of flags, the environment or a context
		return nil, usagef("%s", message(err))
	}
	return conn, err
}

// withConn connects for f, which gets ctx with the timeout of an exchange. What takes longer, as f calls it, has the ctx from outside.
func (a *App) withConn(ctx context.Context, f func(ctx context.Context, conn *bus.Conn) error) error {
	conn, err := a.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what was sent was answered
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	return f(ctx, conn)
}

// query connects for read and returns what that found.
func query[T any](ctx context.Context, app *App, read func(ctx context.Context, conn *bus.Conn) (T, error)) (found T, err error) {
	err = app.withConn(ctx, func(ctx context.Context, conn *bus.Conn) (err error) {
		found, err = read(ctx, conn)
		return err
	})
	return found, err
}

// startPatience is how long a command that keeps running waits at its start for JetStream: servers that were started together
// with it, or have lost one of them, have their leader after 4 to 9 s, or twice that.
const startPatience = 30 * time.Second

// toStart bounds the start of a command that keeps running, by --timeout where that was given.
func (a *App) toStart(ctx context.Context) (context.Context, context.CancelFunc) {
	if !a.given["timeout"] {
		a.Timeout = max(a.Timeout, startPatience) // as the hint of an error says
	}
	return a.withTimeout(ctx)
}

// withTimeout bounds one exchange with the server by --timeout.
func (a *App) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.Timeout)
}
