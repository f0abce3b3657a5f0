package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"

	"github.com/skybus-io/skybus/initiators"
)

// users is what the FTP library wants to know: who may log in, and that nothing but uploads is done. FTP itself cannot tell a file from one whose
// client died in the middle: who sends what must be whole puts into it how to tell.
type users struct {
	target         initiators.Target
	settings       ftpserver.Settings
	user, password string
}

// serve takes uploads until ctx ends.
func (u *users) serve(ctx context.Context, l net.Listener) error {
	u.settings = ftpserver.Settings{Listener: l, DisableActiveMode: true, IdleTimeout: 300, ConnectionTimeout: 30, DefaultTransferType: ftpserver.TransferTypeBinary}
	srv := ftpserver.NewFtpServer(u)
	if err := srv.Listen(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Stop() }) // Serve tells
	defer stop()
	if err := srv.Serve(); ctx.Err() == nil {
		return err
	}
	return nil
}

// AuthUser lets in who knows the password. There is nothing to see, and nothing to take away: only uploads are done.
func (u *users) AuthUser(_ ftpserver.ClientContext, user, password string) (ftpserver.ClientDriver, error) {
	if subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(u.user+"\x00"+u.password)) != 1 {
		return nil, errors.New("user or password is wrong")
	}
	return &session{afero.NewReadOnlyFs(afero.NewMemMapFs()), u.target}, nil
}

func (u *users) GetSettings() (*ftpserver.Settings, error) { return &u.settings, nil }

func (u *users) ClientConnected(ftpserver.ClientContext) (string, error) {
	return "skybus example", nil
}
func (u *users) ClientDisconnected(ftpserver.ClientContext) {}
func (u *users) GetTLSConfig() (*tls.Config, error)         { return nil, errors.New("no certificate") }

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
