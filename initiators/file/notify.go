package file

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	mostWatched = 4096                  // directories; those beyond are found at the next look
	settle      = 20 * time.Millisecond // changes come in crowds
)

// notifier tells that something in the directories has changed. Without it, where the system has no room for one, they are looked
// at now and then all the same.
type notifier struct {
	w       *fsnotify.Watcher // nil for none
	dirs    map[string]bool
	changed chan struct{}
	ended   chan struct{}
}

func (n *session) notify(ctx context.Context) *notifier {
	t := &notifier{dirs: map[string]bool{}, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		n.trouble(ctx, "notifications", err)
		close(t.ended)
		return t
	}
	t.w = w
	go t.run()
	return t
}

func (t *notifier) run() {
	defer close(t.ended)
	for {
		select {
		case _, ok := <-t.w.Events:
			if !ok {
				return
			}
		case _, ok := <-t.w.Errors: // too many at once: some are lost
			if !ok {
				return
			}
		}
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}

// add watches one more directory.
func (t *notifier) add(dir string) {
	if t.w == nil || t.dirs[dir] || len(t.dirs) >= mostWatched {
		return
	}
	if t.w.Add(dir) == nil { // else it is looked at all the same
		t.dirs[dir] = true
	}
}

// keep forgets directories that are gone, which the system does by itself.
func (t *notifier) keep(there map[string]bool) {
	for dir := range t.dirs {
		if !there[dir] {
			delete(t.dirs, dir)
		}
	}
}

func (t *notifier) close() {
	if t.w != nil {
		_ = t.w.Close() // there is nothing to lose
	}
	<-t.ended
}

// wait returns at the next change, after d, or when ctx ends.
func (t *notifier) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-t.changed:
	}
	timer.Reset(min(d, settle))
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
