package auth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// filePoll is how often a file is looked at. Looking sees what notifications miss: mounted secrets are changed by renaming a link
// two directories above.
const filePoll = time.Second

// file is a key set in a file. While it cannot be read, or holds no keys, what was read last is used on.
type file struct {
	path   string
	secret bool
	log    *slog.Logger

	set    atomic.Pointer[keySet]
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ keySource = (*file)(nil)

func openFile(ctx context.Context, path string, secret bool, log *slog.Logger) (*file, error) {
	f := &file{path: path, secret: secret, log: log}
	seen, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	set, err := f.read()
	if err != nil {
		return nil, err
	}
	f.set.Store(set)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.wg.Go(func() { f.run(life, seen) })
	return f, nil
}

// Close ends the looking.
func (f *file) Close() error {
	f.cancel()
	f.wg.Wait()
	return nil
}

func (f *file) run(ctx context.Context, seen os.FileInfo) {
	tick := time.NewTicker(filePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := os.Stat(f.path)
		if err != nil {
			if seen != nil {
				f.log.WarnContext(ctx, "key file cannot be read, the last keys are used on", "file", f.path, "error", err)
			}
			seen = nil
			continue
		}
		if seen != nil && os.SameFile(seen, now) && seen.ModTime().Equal(now.ModTime()) && seen.Size() == now.Size() {
			continue
		}
		// Looked at before it is read: what is written meanwhile is seen the next time.
		seen = now
		set, err := f.read()
		if err != nil {
			f.log.WarnContext(ctx, "key file cannot be read, the last keys are used on", "file", f.path, "error", err)
			continue
		}
		f.set.Store(set)
		f.log.InfoContext(ctx, "key file was read again", "file", f.path)
	}
}

func (f *file) read() (*keySet, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	set, err := parseKeySet(data, f.secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return set, nil
}

// current is the set that was read last.
func (f *file) current() *keySet { return f.set.Load() }

// find looks into the set.
func (f *file) find(_ context.Context, kid string, alg jose.SignatureAlgorithm) ([]any, error) {
	return f.set.Load().find(kid, alg), nil
}
