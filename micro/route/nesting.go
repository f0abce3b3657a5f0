package route

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// headerPath is the routes that led to an asynchronous step, outermost first, separated by commas.
const headerPath = "Skybus-Route-Path"

// nesting is the routes that a run is within.
type nesting struct {
	path  []string // outermost first
	retry bool     // one of them may be done twice, and so all its steps
}

type nestingKey struct{}

func nestingOf(ctx context.Context) nesting {
	n, _ := ctx.Value(nestingKey{}).(nesting)
	return n
}

// enter is ctx within the route called name, too. The error is that this would lead back to a route that runs, or too deep.
func enter(ctx context.Context, name string) (context.Context, error) {
	n := nestingOf(ctx)
	if err := checkPath(n.path, name); err != nil {
		return ctx, err
	}
	n.path = append(slices.Clip(n.path), name)
	return context.WithValue(ctx, nestingKey{}, n), nil
}

// checkPath tells why the route called name cannot run within those of path.
func checkPath(path []string, name string) *bus.Error {
	within := append(slices.Clip(path), name)
	var text string
	switch {
	case slices.Contains(path, name):
		text = "routes lead back to where they came from: " + arrows(within)
	case len(within) > MaxDepth:
		text = fmt.Sprintf("routes are nested deeper than %d: %s", MaxDepth, arrows(within))
	default:
		return nil
	}
	return bus.Errorf(bus.FailedPrecondition, "%s", text).With("route", name).With("path", strings.Join(within, ","))
}

func arrows(path []string) string { return strings.Join(path, " -> ") }

// withRetry is ctx within a route that may be done twice.
func withRetry(ctx context.Context) context.Context {
	n := nestingOf(ctx)
	n.retry = true
	return context.WithValue(ctx, nestingKey{}, n)
}

// withPath is ctx within the routes that a header names. Whoever wrote it, it is no longer than one of ours.
func withPath(ctx context.Context, header string) (context.Context, error) {
	if header == "" {
		return ctx, nil
	}
	path := strings.SplitN(header, ",", MaxDepth+1)
	for _, name := range path {
		if err := bus.CheckToken("route", name); err != nil {
			return ctx, bus.Errorf(bus.InvalidArgument, "header %s: %w", headerPath, err)
		}
	}
	return context.WithValue(ctx, nestingKey{}, nesting{path: path}), nil
}
