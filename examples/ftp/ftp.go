package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"

	"github.com/skybus-io/skybus/initiators"
)

const (
	maxUpload   = 512 << 10
	sendTimeout = 30 * time.Second
)

// uploads is the initiator: each file that comes by FTP is one request to target. A client reads that its upload is complete once the
// target has answered, and otherwise the target's error. FTP itself
// cannot tell a file from one whose client died in the middle: who sends what must be whole puts into it how to tell.
type uploads struct {
	target         initiators.Target
	settings       ftpserver.Settings
	user, password string
}

// AuthUser lets in who knows the password. There is nothing to see, and nothing to take away: only uploads are done.
func (u *uploads) AuthUser(_ ftpserver.ClientContext, user, password string) (ftpserver.ClientDriver, error) {
	if subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(u.user+"\x00"+u.password)) != 1 {
		return nil, errors.New("user or password is wrong")
	}
	return &session{afero.NewReadOnlyFs(afero.NewMemMapFs()), u.target}, nil
}

func (u *uploads) GetSettings() (*ftpserver.Settings, error) { return &u.settings, nil }

func (u *uploads) ClientConnected(ftpserver.ClientContext) (string, error) {
	return "skybus example", nil
}
func (u *uploads) ClientDisconnected(ftpserver.ClientContext) {}
func (u *uploads) GetTLSConfig() (*tls.Config, error)         { return nil, errors.New("no certificate") }

// session is what one client may do.
type session struct {
	afero.Fs

	target initiators.Target
}

// GetHandle begins an upload. One that is to go on where an earlier one broke off is refused: nothing of that is kept.
func (s *session) GetHandle(name string, flags int, offset int64) (ftpserver.FileTransfer, error) {
	if flags&os.O_WRONLY == 0 || flags&os.O_APPEND != 0 || offset != 0 {
		return nil, errors.New("only whole files are taken, and none are given")
	}
	return &upload{target: s.target, name: path.Base(name)}, nil
}

// upload is a file on its way.
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

func (u *upload) Read([]byte) (int, error)       { return 0, os.ErrPermission }
func (u *upload) Seek(int64, int) (int64, error) { return 0, os.ErrPermission }
func (u *upload) TransferError(err error)        { u.failed = err }

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
