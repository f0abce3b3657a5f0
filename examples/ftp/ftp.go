package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"github.com/skybus-io/skybus/initiators"
)

const (
	maxUpload   = 512 << 10
	sendTimeout = 30 * time.Second
)

// upload is the initiator: each file that comes is one request to target. A client reads that its upload is complete once the target has answered, and
// otherwise the target's error.
type upload struct {
	target initiators.Target
	name   string
	body   bytes.Buffer
	failed error
}

// Write takes the next bytes of it.
func (u *upload) Write(p []byte) (int, error) {
	if u.body.Len()+len(p) > maxUpload {
		return 0, errors.New("the file has more than 512 KiB")
	}
	return u.body.Write(p)
}

// Close sends what has come whole. The key is the same when the file comes again, as it does when a client did not read the answer.
func (u *upload) Close() error {
	if u.failed != nil {
		return u.failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	sum := sha256.Sum256(append([]byte(u.name+"\x00"), u.body.Bytes()...))
	_, err := u.target.Send(ctx, initiators.Request{
		Key: hex.EncodeToString(sum[:]), Body: u.body.Bytes(),
		Values: func(name string) (string, bool) { return u.name, name == "file" },
	})
	return err
}

func (u *upload) Read([]byte) (int, error)       { return 0, os.ErrPermission }
func (u *upload) Seek(int64, int) (int64, error) { return 0, os.ErrPermission }
func (u *upload) TransferError(err error)        { u.failed = err }
