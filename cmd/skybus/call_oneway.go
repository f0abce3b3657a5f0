package main

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// notify sends the request to one instance, or to all, and waits for nobody but the server, which says whether we may.
func (c *callCmd) notify(ctx context.Context, client *micro.Client, req micro.Request) error {
	opts, err := c.options()
	if err != nil {
		return err
	}
	conn := client.Conn()
	ns := conn.Namespace()
	access := bus.Access{Publish: []string{ns.OneWaySubject(req.Service, req.Endpoint), ns.AllSubject(req.Service, req.Endpoint)}}
	for id := range known(client.Registry().Service(req.Service), req.Endpoint) {
		access.Publish = append(access.Publish, ns.InstanceSubject(req.Service, id, req.Endpoint))
	}
	if c.ToInstance != "" {
		access.Publish = append(access.Publish, ns.InstanceSubject(req.Service, c.ToInstance, req.Endpoint))
	}
	return conn.Permitted(ctx, access, func(ctx context.Context) error {
		send := micro.Notify
		if c.All {
			send = micro.NotifyAll
		}
		if err := send(ctx, client, c.Target, req.Body, opts...); err != nil {
			return err
		}
		return conn.Flush(ctx)
	})
}
