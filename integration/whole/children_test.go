//go:build unix

package whole_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// childNames are all children there are.
func childNames() []string {
	names := []string{receiverRole + "-1"}
	for _, role := range append(services(), backendRole) {
		for i := range 3 {
			names = append(names, fmt.Sprintf("%s-%d", role, i+1))
		}
	}
	return names
}

// run is the child until ctx ends. It calls ready once it serves, with its base URL if it has one. Started again with the same name, it
// goes on where it was.
func (c child) run(ctx context.Context, ready func(url string)) error {
	r, err := openRecorder(c.Dir, c.Name)
	if err != nil {
		return err
	}
	p := &part{child: c, recorder: r, ready: ready, quiet: make(chan struct{})}
	var marking sync.WaitGroup
	marks, cancel := context.WithCancel(ctx)
	defer marking.Wait()
	defer cancel()
	marking.Go(func() { p.mark(marks) })
	switch c.Role {
	case backendRole:
		return runBackend(ctx, p)
	case receiverRole:
		return runReceiver(ctx, p)
	default:
		return runService(ctx, p)
	}
}

// part is a child in its own process.
type part struct {
	child
	*recorder

	ready func(url string)
	quiet chan struct{} // closed when the run is over, and what nobody asked for is not recorded any more
	over  sync.Once
}

// markFile holds the name of the mark that all children are to write when it changes.
const markFile = "mark"

const lookForMark = 50 * time.Millisecond

// mark writes a mark whenever another one is asked for.
func (p *part) mark(ctx context.Context) {
	last := []byte(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookForMark):
		}
		name, err := os.ReadFile(filepath.Join(p.Dir, markFile))
		if err == nil && len(name) > 0 && !bytes.Equal(name, last) {
			last = name
			p.over.Do(func() { close(p.quiet) })
			err = p.add(record{What: marked, ID: string(name)})
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "%s: mark: %v\n", p.Name, err) // the verdict misses it
		}
	}
}

// own records what nobody asked for, while the run lasts.
func (p *part) own(e record) {
	select {
	case <-p.quiet:
		return
	default:
	}
	if err := p.add(e); err != nil {
		fmt.Fprintf(os.Stderr, "%s: journal: %v\n", p.Name, err)
		os.Exit(1) // what is not recorded must not seem not to have happened
	}
}

// askForMark makes all children write a mark.
func askForMark(dir, name string) error {
	part := filepath.Join(dir, markFile+".part")
	if err := os.WriteFile(part, []byte(name), 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(dir, markFile))
}
