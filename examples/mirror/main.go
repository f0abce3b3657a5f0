// Command mirror is a to-do application that keeps its items in memory and knows nothing of any other: three copies of it, behind a
// mirror, behave as one. Each line in a terminal of its own, from the root of the repository:
//
//	go run ./examples/mirror 127.0.0.1:9001
//	go run ./examples/mirror 127.0.0.1:9002
//	go run ./examples/mirror 127.0.0.1:9003
//	go run ./cmd/skybus up --mirror examples/mirror/mirror.yaml
//
// Then, as a client of the mirror:
//
//	curl -d 'buy milk' http://127.0.0.1:7117/todos            # makes an item, in all copies
//	curl http://127.0.0.1:7117/todos                          # asks one of them
//	curl -X PUT -d 'buy bread' http://127.0.0.1:7117/todos/ID # changes it, in all copies
//	curl http://127.0.0.1:9001/todos http://127.0.0.1:9002/todos http://127.0.0.1:9003/todos
//
// Stop one of the copies and write on: the others answer, and go run ./cmd/skybus mirror status shows what waits for it. Started again it has lost all
// that it had, as it keeps it in memory, so that what waits is not enough: go run ./cmd/skybus mirror repair c --from 1 sends it everything once more.
//
// Two things make copies stay alike. Whatever an application makes up itself, a number, a time, would differ from copy to copy: this one names its
// items by the Idempotency-Key, which the mirror gives every write and which is the same for all. And a write may come twice, so that to make an item
// that is there already changes nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const maxItem = 1 << 10

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

// run serves a copy of the application at each of the addresses, until ctx ends.
func run(ctx context.Context, addrs []string, stdout io.Writer) error {
	if len(addrs) == 0 {
		return errors.New("want an address to listen at, such as 127.0.0.1:9001")
	}
	var copies sync.WaitGroup
	defer copies.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(addrs))
	for _, addr := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "to-do at http://%s/todos\n", l.Addr())
		copies.Go(func() { failed <- serve(ctx, l) })
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: newTodos(), ReadTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // what is in flight comes again from the mirror
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// todos is one copy of the application.
type todos struct {
	*http.ServeMux

	mu    sync.Mutex
	items map[string]string // text, by id
}

func newTodos() *todos {
	t := &todos{ServeMux: http.NewServeMux(), items: map[string]string{}}
	t.HandleFunc("GET /todos", t.list)
	t.HandleFunc("POST /todos", t.create)
	t.HandleFunc("GET /todos/{id}", t.get)
	t.HandleFunc("PUT /todos/{id}", t.put)
	t.HandleFunc("DELETE /todos/{id}", t.remove)
	return t
}

func (t *todos) list(w http.ResponseWriter, _ *http.Request) {
	t.mu.Lock()
	body, err := json.MarshalIndent(t.items, "", "  ") // in the order of the ids
	t.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the client has gone
}

func (t *todos) create(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("Idempotency-Key")
	if id == "" {
		http.Error(w, "want an Idempotency-Key, as the mirror gives", http.StatusBadRequest)
		return
	}
	text, ok := read(w, r)
	if !ok {
		return
	}
	t.mu.Lock()
	if _, there := t.items[id]; !there {
		t.items[id] = text
	}
	t.mu.Unlock()
	w.Header().Set("Location", "/todos/"+id)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintln(w, id)
}

func (t *todos) get(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	text, ok := t.items[r.PathValue("id")]
	t.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, text)
}

func (t *todos) put(w http.ResponseWriter, r *http.Request) {
	text, ok := read(w, r)
	if !ok {
		return
	}
	t.mu.Lock()
	t.items[r.PathValue("id")] = text
	t.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (t *todos) remove(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	delete(t.items, r.PathValue("id"))
	t.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// read is the text of an item.
func read(w http.ResponseWriter, r *http.Request) (string, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxItem))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return "", false
	}
	return string(body), true
}
