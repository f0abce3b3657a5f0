package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// profiledPrograms writes CPU profiles of programs that have an admin listener while a variant makes a window more, where profiles are
// wanted at all.
func (b *bench) profiledPrograms(ctx context.Context, name string, all []*platform, v variant) error {
	if b.set.profile == "" {
		return nil
	}
	b.progress.step(name, "profiling")
	if err := os.MkdirAll(b.set.profile, 0o755); err != nil {
		return err
	}
	var running sync.WaitGroup
	errs := make([]error, len(all))
	for i, p := range all {
		file := filepath.Join(b.set.profile, fmt.Sprintf("%s-%s-%d.cpu.prof", name, p.what, i))
		running.Go(func() { errs[i] = p.profile(ctx, file, b.set.window.Seconds()) })
	}
	_, err := v.window()
	running.Wait()
	return errors.Join(append(errs, err)...)
}

func (p *platform) profile(ctx context.Context, file string, seconds float64) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.page(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(max(1, math.Round(seconds)))), func(r io.Reader) error {
		_, err := io.Copy(f, r)
		return err
	})
}

// page reads a page of the program's admin listener.
func (p *platform) page(ctx context.Context, path string, read func(io.Reader) error) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.urls["admin"]+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return read(resp.Body)
}
