package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	fetchTimeout = 5 * time.Second
	demandPause  = 10 * time.Second // between fetches that tokens of unknown keys ask for
	demandWait   = 2 * time.Second  // for such a fetch
	maxWaiting   = 16               // requests that wait for one at a time
	firstRetry   = time.Second
	lastRetry    = time.Minute
	maxHeader    = 32 << 10
)

var errNoKeys = errors.New("the key set was not fetched yet")

// remote is the key set at a URL. It is fetched at the start, from time to time, and when a token names a key that is not in it: at most
// once in 10 s for that, whatever tokens come. When a fetch fails, what was fetched last is used on, and another is made soon.
type remote struct {
	url     string
	refresh time.Duration
	client  *http.Client
	log     *slog.Logger

	set     atomic.Pointer[keySet] // nil until one was fetched
	ask     chan struct{}
	waiting atomic.Int32
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	began   time.Time     // the latest fetch
	fetched chan struct{} // closed at the end of the fetch that runs, or of the next one
	busy    bool          // a fetch runs
}

var _ keySource = (*remote)(nil)

// openRemote begins to fetch; first is closed when that has succeeded or failed once.
func openRemote(ctx context.Context, cfg *JWTConfig, client *http.Client, log *slog.Logger) (s *remote, first <-chan struct{}) {
	if client == nil {
		client = newClient()
	}
	s = &remote{url: cfg.JWKS, refresh: cfg.refresh(), client: client, log: log, ask: make(chan struct{}, 1), fetched: make(chan struct{})}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	first = s.fetched
	s.wg.Go(func() { s.run(life) })
	return s, first
}

// newClient follows no redirect: it could lead to where no key set of the issuer is, or out of https.
func newClient() *http.Client {
	var transport *http.Transport
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = t.Clone()
	} else {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	transport.DisableKeepAlives = true // the next fetch is minutes away
	transport.MaxResponseHeaderBytes = maxHeader
	return &http.Client{
		Transport:     transport,
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends the fetches.
func (s *remote) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}

func (s *remote) run(ctx context.Context) {
	retry := firstRetry
	for {
		err := s.fetchNow(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := s.refresh - rand.N(s.refresh/10) // gateways that were started together spread
		if err != nil {
			s.log.WarnContext(ctx, "key set cannot be fetched, the last one is used on", "have_keys", s.set.Load() != nil, "error", err)
			pause = min(retry/2+rand.N(retry), s.refresh)
			retry = min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		if !s.rest(ctx, pause) {
			return
		}
	}
}

// rest waits for pause, or until somebody asks for a fetch who may. False means that ctx has ended.
func (s *remote) rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-s.ask:
			s.mu.Lock()
			due := time.Since(s.began) >= demandPause // or it was asked while one began
			s.mu.Unlock()
			if due {
				return true
			}
		}
	}
}

// fetchNow makes one fetch, and wakes who waits for it.
func (s *remote) fetchNow(ctx context.Context) error {
	s.mu.Lock()
	s.began, s.busy = time.Now(), true
	s.mu.Unlock()
	set, err := s.fetch(ctx)
	if err == nil {
		s.set.Store(set)
	}
	s.mu.Lock()
	s.busy = false
	close(s.fetched)
	s.fetched = make(chan struct{})
	s.mu.Unlock()
	return err
}

func (s *remote) fetch(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if uerr, ok := errors.AsType[*url.Error](err); ok {
		err = uerr.Err // without the URL, whose query may be a secret
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it is wanted
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: want 200", res.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	return parseKeySet(data, false)
}

// current is the set that was fetched last.
func (s *remote) current() *keySet { return s.set.Load() }

// find looks into the set, and asks for a new one where it has no key of that id.
func (s *remote) find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) ([]any, error) {
	set := s.set.Load()
	if set == nil {
		return nil, errNoKeys
	}
	keys := set.find(kid, alg)
	if len(keys) == 0 && kid != "" && s.demand(ctx) {
		keys = s.set.Load().find(kid, alg)
	}
	return keys, nil
}

// demand has the set fetched and waits for that, if it was not just fetched and not too many wait already: unknown ids cost whoever
// sends them nothing.
func (s *remote) demand(ctx context.Context) bool {
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > maxWaiting {
		return false
	}
	s.mu.Lock()
	busy, due, fetched := s.busy, time.Since(s.began) >= demandPause, s.fetched
	s.mu.Unlock()
	if !busy && !due {
		return false
	}
	if !busy {
		select {
		case s.ask <- struct{}{}:
		default:
		}
	}
	timer := time.NewTimer(demandWait)
	defer timer.Stop()
	select {
	case <-fetched:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}
