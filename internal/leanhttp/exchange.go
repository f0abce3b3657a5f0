package leanhttp

import (
	"context"
	"errors"
)

// exchange is a request under way whose answer has begun.
type exchange struct {
	client *Client
	conn   *conn
	stop   func() bool // the watch over the ctx; nil without
	head   head
	body   body
}

// exchange sends the request and reads the head of the answer.
func (c *Client) exchange(ctx context.Context, req *Request) (exchange, error) {
	if err := req.check(); err != nil {
		return exchange{}, &Error{"check", c.addr, false, err}
	}
	deadline := req.Deadline
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	if err := ctx.Err(); err != nil {
		return exchange{}, &Error{"wait", c.addr, false, context.Cause(ctx)}
	}
	cn, err := c.pool.take(ctx, deadline)
	if err != nil {
		return exchange{}, &Error{"wait", c.addr, false, err}
	}
	if cn != nil {
		x, again, err := c.try(ctx, cn, req)
		if err == nil || !again {
			return x, err
		}
	}
	if cn, err = c.connect(ctx, deadline); err != nil {
		c.pool.release()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return exchange{}, &Error{"dial", c.addr, false, err}
	}
	x, _, err := c.try(ctx, cn, req)
	return x, err
}

// try makes one attempt. With an error the connection is closed; again tells that its place in the pool is still taken, for another
// attempt on a new connection: this one had been kept, and ended before a byte of the answer.
func (c *Client) try(ctx context.Context, cn *conn, req *Request) (x exchange, again bool, err error) {
	x = exchange{client: c, conn: cn}
	if ctx.Done() != nil {
		x.stop = context.AfterFunc(ctx, func() { cn.abort(context.Cause(ctx)) })
	}
	whole, sent, err := cn.send(req, c.addr)
	if err != nil {
		failure := x.failed("write", err)
		failure.Sent = sent
		if sent {
			failure.Op = "read"
		}
		_, notReady := errors.AsType[*notReadyError](err)
		again = cn.kept && (req.Repeatable || !sent) && !failure.Timeout() && cn.aborted.Load() == nil && !notReady
		x.drop(!again)
		return exchange{}, again, failure
	}
	if x.head, cn.in, err = readHead(cn.r, cn.in, c.cfg.MaxHeadBytes, req.Method); err != nil {
		err = x.failed("read", err)
		x.drop(true)
		return exchange{}, false, err
	}
	x.head.keep = x.head.keep && whole
	x.body.init(cn.r, x.head.length, c.cfg.MaxHeadBytes)
	return x, false, nil
}

// failed is the error of a request that was sent.
func (x *exchange) failed(op string, err error) *Error {
	if cause := x.conn.aborted.Load(); cause != nil {
		err = *cause
	}
	return &Error{op, x.client.addr, true, err}
}

// end keeps the connection for another request if the whole answer was read and nothing speaks against it, and closes it otherwise.
func (x *exchange) end(whole bool) {
	if !whole || !x.head.keep || x.conn.r.Buffered() > 0 || x.conn.writing != nil {
		x.drop(true)
		return
	}
	if x.stop != nil && !x.stop() { // it is being closed
		x.drop(true)
		return
	}
	x.conn.kept = true
	x.client.pool.put(x.conn)
}

// drop closes the connection, and gives its place in the pool back where nobody goes on to use it.
func (x *exchange) drop(release bool) {
	if x.stop != nil {
		x.stop()
	}
	x.conn.close()
	if release {
		x.client.pool.release()
	}
}
