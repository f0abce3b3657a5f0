package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/restapi"
)

// spawnAPI is Spawn's.
type spawnAPI struct{ *Handler }

func (a spawnAPI) serve(w http.ResponseWriter, r *http.Request) {
	if path := strings.TrimSuffix(r.URL.Path, "/"); path != r.URL.Path && path != "" { // /nodes/ is /nodes
		r2 := r.Clone(r.Context())
		r2.URL.Path, r2.URL.RawPath = path, strings.TrimSuffix(r.URL.RawPath, "/")
		if _, pattern := a.spawn.Handler(r2); pattern != "/" {
			r = r2
		}
	}
	a.spawn.ServeHTTP(w, r)
}

// fail answers in Spawn's words.
func (a spawnAPI) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := restapi.AsError(r.Context(), err)
	status := restapi.StatusOf(e)
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	restapi.Prepare(w, r, a.log, status, err)
	a.refuse(w, r, status, e.Message, e.Details["info"])
}

// endpoint answers one method at one path.
type endpoint struct {
	method, path string
	serve        func(w http.ResponseWriter, r *http.Request) error
	long         bool // takes as long as it likes
}

// spawnEndpoints are those of Spawn's API.
func (h *Handler) spawnEndpoints() []endpoint {
	a := spawnAPI{h}
	return []endpoint{
		{http.MethodGet, "/info", a.info, false},
		{http.MethodGet, "/list", a.help, false},
		{http.MethodGet, "/list/nodes", a.help, false},
		{http.MethodGet, "/list/nodes/get", a.help, false},
		{http.MethodGet, "/list/nodes/set", a.help, false},
		{http.MethodGet, "/list/nodes/delete", a.help, false},
		{http.MethodGet, "/nodes", a.getNodes, false},
		{http.MethodPut, "/nodes", a.putNodes, false},
		{http.MethodDelete, "/nodes", a.deleteNodes, false},
		{http.MethodGet, "/nodes/metrics", a.table, false},
		{http.MethodGet, "/nodes/{host}", a.getNodes, false},
		{http.MethodPut, "/nodes/{host}", a.putHost, false},
		{http.MethodDelete, "/nodes/{host}", a.deleteNodes, false},
		{http.MethodGet, "/nodes/{host}/{port}", a.getNodes, false},
		{http.MethodPut, "/nodes/{host}/{port}", a.putNode, false},
		{http.MethodDelete, "/nodes/{host}/{port}", a.deleteNodes, false},
	}
}

func (h *Handler) spawnRoutes() *http.ServeMux {
	a := spawnAPI{h}
	mux := http.NewServeMux()
	h.register(mux, h.spawnEndpoints(), a.fail, func(w http.ResponseWriter, r *http.Request, allow string) {
		w.Header().Set("Allow", allow)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		a.refuse(w, r, http.StatusMethodNotAllowed, "Method not allowed", "Please use one of "+allow)
	})
	// They gave out tokens that nothing asked for.
	for _, path := range []string{"/login", "/login/{token}", "/logout", "/logout/{token}"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			a.unknown(w, r, http.StatusGone, "There is no login", "Tokens are those of the file that --token-file names; every request carries one as Authorization: Bearer TOKEN")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if h.cfg.Pages != nil {
			if _, pattern := h.cfg.Pages.Handler(r); pattern != "" {
				h.cfg.Pages.ServeHTTP(w, r)
				return
			}
		}
		a.unknown(w, r, http.StatusNotFound, "Not found", "Please see /list and /v1/openapi.json for what there is")
	})
	return mux
}

// register adds endpoints to a mux. Other methods at their paths are refuse's.
func (h *Handler) register(mux *http.ServeMux, all []endpoint, fail func(http.ResponseWriter, *http.Request, error), refuse func(w http.ResponseWriter, r *http.Request, allow string)) {
	allow := map[string]string{}
	for _, e := range all {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
			ctx := context.WithValue(r.Context(), beginKey{}, time.Now())
			if e.long {
				_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxDrainWait + h.cfg.Timeout)) // where there is none it is not needed
			} else {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, h.cfg.Timeout)
				defer cancel()
			}
			r = r.WithContext(ctx)
			if err := e.serve(w, r); err != nil {
				fail(w, r, err)
			}
		})
		allow[e.path] = strings.TrimPrefix(allow[e.path]+", "+e.method, ", ")
	}
	delete(allow, "/nodes/metrics") // all but GET is about a host of this name
	for path, methods := range allow {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { refuse(w, r, methods) })
	}
}

// envelope is around all that Spawn answers in JSON.
type envelope struct {
	Duration time.Duration `json:"duration"`
	Took     string        `json:"took"`
	Params   []param       `json:"params,omitempty"`
	Data     any           `json:"data"`

	// Of an error, beside those in Data.
	Error   int    `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
	Info    string `json:"info,omitempty"`
	Success *bool  `json:"success,omitempty"`
}

// param is a part of the path.
type param struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// beginKey is the key of the time at which a request was begun with.
type beginKey struct{}

func (a spawnAPI) envelope(r *http.Request, data any) envelope {
	var took time.Duration // of a request that was refused before anything was done
	if begun, ok := r.Context().Value(beginKey{}).(time.Time); ok {
		took = time.Since(begun)
	}
	e := envelope{Duration: took, Took: took.String(), Data: data}
	for _, name := range []string{"host", "port"} {
		if v := r.PathValue(name); v != "" {
			e.Params = append(e.Params, param{":" + name, v})
		}
	}
	return e
}

// results is what Spawn answers about nodes.
type results struct {
	Success bool `json:"success"`
	Total   int  `json:"total"`
	Results any  `json:"results"`
}

// failure is what it answers in place of them.
type failure struct {
	Error   int    `json:"error"`
	Message string `json:"message"`
	Info    string `json:"info,omitempty"`
	Success bool   `json:"success"`
}

func (a spawnAPI) refuse(w http.ResponseWriter, r *http.Request, status int, message, info string) {
	e := a.envelope(r, failure{status, message, info, false})
	e.Error, e.Message, e.Info, e.Success = status, message, info, new(false)
	a.answer(w, r, status, e)
}

// unknown answers where there is nothing.
func (a spawnAPI) unknown(w http.ResponseWriter, r *http.Request, status int, text, information string) {
	type inner struct {
		Error       string
		Information string
	}
	a.answer(w, r, status, struct{ Message inner }{inner{text, information}})
}

func noRecords() error {
	return bus.Errorf(bus.NotFound, "Record(s) not found").With("info", "Please add a record(s) before using")
}

// info tells of the process.
func (a spawnAPI) info(w http.ResponseWriter, r *http.Request) error {
	type runtimeInfo struct {
		Compiler string
		CPU      int
		Memory   string
		Threads  int
	}
	type release struct {
		Number string
		Date   string
	}
	host, err := os.Hostname()
	if err != nil {
		return bus.Errorf(bus.Internal, "host name: %w", err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	a.answer(w, r, http.StatusOK, struct {
		Host    string
		Runtime runtimeInfo
		Release release
	}{
		host,
		runtimeInfo{runtime.Version(), runtime.NumCPU(), fmt.Sprintf("%.2fMB", float64(memory.Alloc)/(1<<20)), runtime.NumGoroutine()},
		release{a.cfg.Version, a.cfg.Built},
	})
	return nil
}

// help lists the routes below the path.
func (a spawnAPI) help(w http.ResponseWriter, r *http.Request) error {
	about := map[string]string{
		http.MethodGet:    "show",
		http.MethodPut:    "add or change: a JSON object with some of host, port, priority, active and maintenance; at /nodes a list of them",
		http.MethodDelete: "delete, with all that waits for it",
	}
	only := map[string]string{"get": http.MethodGet, "set": http.MethodPut, "delete": http.MethodDelete}[strings.TrimPrefix(r.URL.Path, "/list/nodes/")]
	var b strings.Builder
	for _, e := range a.spawnEndpoints() {
		nodes := strings.HasPrefix(e.path, "/nodes")
		switch {
		case only != "" && (e.method != only || !nodes), r.URL.Path == "/list/nodes" && !nodes:
			continue
		case !nodes:
			fmt.Fprintf(&b, "%-7s %s\n", e.method, e.path)
		case e.path == "/nodes/metrics":
			fmt.Fprintf(&b, "%-7s %-22s counts, as a table\n", e.method, e.path)
		default:
			fmt.Fprintf(&b, "%-7s %-22s %s\n", e.method, strings.NewReplacer("{", ":", "}", "").Replace(e.path), about[e.method])
		}
	}
	if only == "" {
		b.WriteString("\n?pretty=true indents JSON. /v1/openapi.json describes these and more; /metrics is for Prometheus.\n")
	}
	send(w, http.StatusOK, "text/plain; charset=utf-8", []byte(b.String()))
	return nil
}
