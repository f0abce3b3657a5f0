package getwidgets

import (
	"context"
	"log/slog"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
)

// settle takes what the live configuration says of a service when it starts: where it runs, and whether it takes requests.
func settle(cfg *micro.Config, values *config.Values) {
	if values == nil {
		return
	}
	scope := config.Scope{Service: cfg.Name, Version: cfg.Version}
	cfg.Region = config.Get(values, scope, config.Region, cfg.Region)
	cfg.Host = config.Get(values, scope, config.Host, cfg.Host)
	cfg.Unregistered = !config.Get(values, scope, config.ServiceRegister, true)
}

// runFollowing runs a service, which takes requests while the live configuration says so. What else tells it to register or
// not, such as `skybus instances unregister`, holds until the configuration changes.
func runFollowing(ctx context.Context, svc *micro.Service, values *config.Values, log *slog.Logger) error {
	if values == nil {
		return svc.Run(ctx)
	}
	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		scope := config.Scope{Service: svc.Address().Service, Version: Version}
		config.FollowRegister(following, values, scope, true, func(registered bool) {
			if err := svc.SetRegistered(following, registered); err != nil && following.Err() == nil {
				log.WarnContext(ctx, "service.register is not obeyed", "service", scope.Service, "registered", registered, "error", err)
			}
		})
	}()
	err := svc.Run(ctx)
	stop()
	<-ended
	return err
}
