package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// patience is how long a process may take to end when it was told to.
const patience = 5 * time.Second

// child is an actor seen from the measurement. It is killed when the ctx it was started with ends.
type child struct {
	role   role
	cmd    *exec.Cmd
	in     io.WriteCloser
	enc    *json.Encoder
	dec    *json.Decoder
	stderr *strings.Builder // complete once the process has ended
	close  func() error     // ends the process, once
	killed bool             // its end is no error
}

// spawn starts this program again in a role.
func spawn(ctx context.Context, r role) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: r, cmd: exec.CommandContext(ctx, exe), stderr: &strings.Builder{}}
	c.close = sync.OnceValue(c.end)
	c.cmd.Env = append(os.Environ(), roleVariable+"="+string(r))
	c.cmd.Stderr = c.stderr
	c.cmd.WaitDelay = patience
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", r, err)
	}
	return c, nil
}

// do gives an order and waits for the answer.
func (c *child) do(o order) (answer, error) {
	var ans answer
	if err := c.enc.Encode(o); err != nil {
		return ans, c.gone(o, err)
	}
	if err := c.dec.Decode(&ans); err != nil {
		return ans, c.gone(o, err)
	}
	if ans.Error != "" {
		return ans, fmt.Errorf("%s: %s", c.role, ans.Error)
	}
	return ans, nil
}

// gone is the error of a process that ended too early, with what it last said.
func (c *child) gone(o order, err error) error {
	return fmt.Errorf("%s: %s: %w", c.role, o.Op, errors.Join(err, c.close()))
}

// kill ends the process as kill -9 does, and returns when the signal is sent.
func (c *child) kill() error {
	c.killed = true
	return c.cmd.Process.Kill()
}

// end tells the process to end and waits for that. What it wrote to stderr is in the error.
func (c *child) end() error {
	_ = c.in.Close() // that is how it is told
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil && !c.killed {
		return fmt.Errorf("%s: %w: %s", c.role, err, strings.TrimSpace(c.stderr.String()))
	}
	return nil
}
