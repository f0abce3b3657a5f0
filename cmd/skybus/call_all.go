package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// gatheredRow is what one instance answered.
type gatheredRow struct {
	Instance string          `json:"instance"`
	OK       bool            `json:"ok"`
	Code     bus.Code        `json:"code,omitempty"`
	Error    string          `json:"error,omitempty"`
	Answer   json.RawMessage `json:"answer,omitempty"`
}

// callAll calls all instances and lists what they answer, also those of whom no answer came.
func (c *callCmd) callAll(ctx context.Context, app *App, client *micro.Client, req micro.Request) error {
	missing := known(client.Registry().Service(req.Service), req.Endpoint)
	opts, err := c.options()
	if err != nil {
		return err
	}
	var rows []gatheredRow
	for g, err := range micro.CallAll[[]byte](ctx, client, c.Target, req.Body, append(opts, micro.Quiet(cmp.Or(c.Quiet, app.Timeout)))...) {
		if err != nil && g.From == "" {
			return c.failure(ctx, err)
		}
		row := gatheredRow{Instance: g.From, OK: err == nil}
		if from, err := bus.ParseAddress(g.From); err == nil {
			row.Instance = from.Instance
		}
		if err != nil {
			e := bus.AsError(err)
			row.Code, row.Error = e.Code, e.Message
		} else if row.Answer = g.Resp; len(g.Resp) > 0 && !json.Valid(g.Resp) {
			row.Answer, _ = json.Marshal(string(g.Resp)) // a string encodes
		}
		delete(missing, row.Instance)
		rows = append(rows, row)
	}
	for id := range missing {
		rows = append(rows, gatheredRow{Instance: id, Code: bus.DeadlineExceeded, Error: "no answer"})
	}
	return reportGathered(app, rows)
}

// known are the instances that should answer.
func known(s *registry.Service, endpoint string) map[string]bool {
	ids := map[string]bool{}
	if s == nil {
		return ids
	}
	for _, i := range slices.Concat(s.Online, s.Rest) {
		if _, ok := i.Endpoint(endpoint); ok && i.State != registry.Offline {
			ids[i.Instance] = true
		}
	}
	return ids
}

func reportGathered(app *App, rows []gatheredRow) error {
	slices.SortFunc(rows, func(a, b gatheredRow) int { return cmp.Compare(a.Instance, b.Instance) })
	failed := 0
	for _, r := range rows {
		if !r.OK {
			failed++
		}
	}
	err := printList(app, rows, []string{"instance", "answer"}, func(r gatheredRow) []any {
		if !r.OK {
			return []any{r.Instance, fmt.Sprintf("%s: %s", r.Code, r.Error)}
		}
		return []any{r.Instance, compact(r.Answer)}
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %s failed", failed, plural(len(rows), "instance"))
	}
	return err
}

// compact is JSON on one line.
func compact(text []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text)
	}
	return b.String()
}
