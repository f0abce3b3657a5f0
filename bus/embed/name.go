package embed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	askTimeout = 500 * time.Millisecond // for a member of the cluster to say who it is
	infoBytes  = 64 << 10
)

// ErrNameInUse is in the error of [Start] when one of the routes leads to a server of
// the same name.
var ErrNameInUse = errors.New("server name is in use")

// checkName asks the members at the routes who they are. To the cluster a name is a
// server: two of one name vote twice, and the one with less data can undo what the
// other has acknowledged. Its own address may be among the routes, as nobody listens
// there yet.
func checkName(ctx context.Context, o *server.Options) error {
	if o.Cluster.Name == "" {
		return nil
	}
	taken := make([]error, len(o.Routes))
	var wg sync.WaitGroup
	for i, route := range o.Routes {
		wg.Go(func() {
			if nameOf(ctx, route) == o.ServerName {
				taken[i] = fmt.Errorf("%w: %q runs at %s: stop that one, or give this one a name and a directory of its own", ErrNameInUse, o.ServerName, route.Host)
			}
		})
	}
	wg.Wait()
	for _, err := range taken {
		if err != nil {
			return err
		}
	}
	return nil
}

// nameOf is the name of the server at a route, "" where it does not say so in time: whoever is away can be no other.
func nameOf(ctx context.Context, route *url.URL) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", route.Host)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok && c.SetReadDeadline(deadline) != nil {
		return ""
	}
	line, err := bufio.NewReaderSize(c, infoBytes).ReadSlice('\n')
	if err != nil {
		return ""
	}
	var info struct {
		Name string `json:"server_name"`
	}
	text, ok := strings.CutPrefix(string(line), "INFO ")
	if !ok || json.Unmarshal([]byte(text), &info) != nil {
		return ""
	}
	return info.Name
}
