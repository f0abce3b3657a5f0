package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus/auth"
)

// roleTest is a user and what it may: + is allowed, - is not; p publishes, s subscribes.
type roleTest struct {
	user auth.UserConfig
	want string
}

func roleTests() []roleTest {
	return []roleTest{
		{auth.UserConfig{Role: auth.Service, Services: []string{"orders"}}, `
			+s shop.prod.svc.orders.get        +s shop.prod.ver.orders.1_0_0.get   +s shop.prod.one.orders.get
			+s shop.prod.inst.orders.i1.get    +s shop.prod.all.orders.get         +s shop.prod.ctl.orders.i1.*
			+s shop.prod.ctl.orders.all.cancel +s $SRV.PING +s $SRV.INFO.orders    +s $SRV.STATS.orders.i1
			-s shop.prod.svc.pay.refund        -s shop.dev.svc.orders.get          -s other.prod.svc.orders.get
			-s shop.prod.svc.*.get             -s shop.prod.>                      -s >
			-s $SRV.INFO.pay                   -s shop.prod.ctl.pay.i1.*           -s _INBOX.>
			+s skybus.kv.skybus_instances.shop.prod.>   -s skybus.kv.skybus_instances.shop.dev.>
			+s skybus.kv.skybus_config.shop.prod.orders.> -s skybus.kv.skybus_config.>
			-s $KV.skybus_instances.>
			+p $KV.skybus_instances.shop.prod.orders.i1 +p $KV.skybus_liveness.shop.prod.orders.i1
			-p $KV.skybus_instances.shop.prod.pay.i1    -p $KV.skybus_liveness.shop.prod.pay.i1
			-p $KV.skybus_instances.shop.dev.orders.i1  -p $KV.skybus_config.shop.prod.orders._.x
			-p $KV.skybus_routes.shop.prod.chain.x
			+p $KV.skybus_leases.shop.prod.election.orders -p $KV.skybus_leases.shop.prod.election.pay
			-p $KV.skybus_leases.shop.prod.mirror.orders
			+p $JS.API.STREAM.INFO.KV_skybus_config  -p $JS.API.STREAM.CREATE.KV_skybus_config
			-p $JS.API.STREAM.INFO.ORDERS            -p $JS.API.STREAM.PURGE.KV_skybus_instances
			-p $JS.API.CONSUMER.CREATE.KV_skybus_config -p $JS.API.STREAM.NAMES -p $JS.API.INFO
			-p $JS.ACK.SKYBUS_ASYNC.c.1.1.1.1.0      -p $SYS.REQ.SERVER.PING -p skybus.kv.skybus_config.shop.prod.x
			+p _INBOX.x.y +p _R_.x.y +p shop.prod.svc.pay.refund +p shop.prod.ev.instance.orders.i1.online
			-p shop.prod.ev.instance.pay.i1.online  -p shop.prod.ctl.pay.i1.stop +p skybus.async.shop.prod.pay.refund
			-p skybus.dlq.shop.prod.async.x -p skybus.tmr.0.s.shop.prod.t1 -p $JS.API.DIRECT.GET.SKYBUS_TMR_0 -p $JS.API.STREAM.MSG.DELETE.SKYBUS_TMR_0`},
		{auth.UserConfig{Role: auth.Client, Calls: []string{"orders", "pay"}}, `
			+p shop.prod.svc.orders.get +p shop.prod.svc.pay.refund -p shop.prod.svc.admin.drop
			+p shop.prod.inst.pay.i1.refund +p shop.prod.ver.pay.1_0_0.refund +p shop.prod.one.pay.refund +p shop.prod.all.pay.refund
			+p shop.prod.ctl.pay.i1.ping +p shop.prod.ctl.pay.all.cancel -p shop.prod.ctl.pay.i1.stop -p shop.prod.ctl.admin.i1.ping
			+p skybus.async.shop.prod.pay.refund -p skybus.async.shop.prod.admin.drop +p $SRV.INFO
			-s shop.prod.svc.orders.get -s shop.prod.> -s _INBOX.> -s $SRV.PING
			-p $KV.skybus_instances.shop.prod.orders.i1 -p $KV.skybus_leases.shop.prod.election.orders
			+s skybus.kv.skybus_routes.shop.prod.chain.> +s shop.prod.ev.> -s shop.dev.ev.>
			-p skybus.tmr.0.s.shop.prod.t1 -p $JS.API.STREAM.INFO.SKYBUS_TMR_0 -p shop.prod.ev.timer.created.t1
			-p $JS.API.DIRECT.GET.KV_skybus_keys -p $JS.API.STREAM.INFO.KV_skybus_keys -s skybus.kv.skybus_keys.shop.prod.*`},
		{auth.UserConfig{Role: auth.Service, Services: []string{"orders"}, Calls: []string{"orders"}}, `
			+p shop.prod.ctl.orders.i1.ping -p shop.prod.ctl.pay.i1.ping -p shop.prod.svc.pay.refund`},
		{auth.UserConfig{Role: auth.Client}, `
			+p shop.prod.svc.orders.get +p shop.prod.svc.admin.drop -p shop.dev.svc.orders.get -p other.prod.svc.orders.get`},
		{auth.UserConfig{Role: auth.Service, Services: []string{"Orders", "pay"}}, `
			+s shop.prod.svc.Orders.get +s shop.prod.svc.pay.get -s shop.prod.svc.orders.get
			+p $KV.skybus_instances.shop.prod.Orders.i1 -p $KV.skybus_instances.shop.prod.orders.i1`},
		{auth.UserConfig{Role: auth.Router}, `
			+s shop.prod.svc.route.x +s shop.prod.ctl.route.r1.* -s shop.prod.svc.orders.get +p shop.prod.svc.orders.get
			+p $KV.skybus_instances.shop.prod.route.r1 -p $KV.skybus_instances.shop.prod.orders.i1 -p $KV.skybus_routes.shop.prod.chain.x
			+p $JS.API.CONSUMER.CREATE.SKYBUS_ASYNC.shop=prod.skybus.async.shop.prod.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_ASYNC.shop=dev.skybus.async.shop.dev.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_ASYNC.shop=prod.skybus.async.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_ASYNC.shop=prod -p $JS.API.CONSUMER.CREATE.SKYBUS_ASYNC
			+p $JS.API.CONSUMER.MSG.NEXT.SKYBUS_ASYNC.shop=prod -p $JS.API.CONSUMER.MSG.NEXT.SKYBUS_ASYNC.shop=dev
			+p $JS.ACK.SKYBUS_ASYNC.shop=prod.1.1.1.1.0 -p $JS.ACK.SKYBUS_ASYNC.shop=dev.1.1.1.1.0
			+p skybus.async.shop.prod.pay.refund -p skybus.async.shop.dev.pay.refund
			+p skybus.dlq.shop.prod.async.x -p skybus.dlq.shop.dev.async.x -p $JS.API.STREAM.PURGE.SKYBUS_DLQ`},
		{auth.UserConfig{Role: auth.Agent}, `
			+p $KV.skybus_instances.shop.prod.orders.i1 -p $KV.skybus_instances.shop.dev.orders.i1 -p $KV.skybus_liveness.shop.prod.orders.i1
			+p shop.prod.ctl.orders.i1.ping -p shop.prod.ctl.orders.i1.stop +p shop.prod.ev.instance.orders.i1.offline
			-p shop.dev.ev.instance.orders.i1.offline -p shop.prod.svc.orders.get -p skybus.async.shop.prod.orders.get -p $SRV.INFO
			-p _INBOX.x.y +s skybus.kv.skybus_liveness.shop.prod.> -s skybus.kv.skybus_liveness.shop.dev.> -s shop.prod.svc.orders.get
			+p $JS.API.DIRECT.GET.KV_skybus_instances -p $JS.API.STREAM.PURGE.KV_skybus_instances`},
		{auth.UserConfig{Role: auth.Admin}, `+s > +p $JS.API.STREAM.CREATE.X +p shop.prod.ctl.pay.i1.stop`},
	}
}

// gatewayRoleTests are those of who brings requests from outside.
func gatewayRoleTests() []roleTest {
	return []roleTest{
		{auth.UserConfig{Role: auth.Gateway, Calls: []string{"orders"}}, `
			+p shop.prod.svc.orders.get -p shop.prod.svc.pay.refund -s shop.prod.svc.orders.get
			+p $JS.API.STREAM.INFO.KV_skybus_keys +p $JS.API.DIRECT.GET.KV_skybus_keys +p $JS.API.STREAM.MSG.GET.KV_skybus_keys
			+s skybus.kv.skybus_keys.shop.prod.* -s skybus.kv.skybus_keys.shop.dev.* -s skybus.kv.skybus_keys.> -s $KV.skybus_keys.shop.prod.*
			-p $KV.skybus_keys.shop.prod.abc -p $JS.API.STREAM.CREATE.KV_skybus_keys -p $JS.API.STREAM.PURGE.KV_skybus_keys
			-p $JS.API.CONSUMER.CREATE.KV_skybus_keys -p $JS.API.STREAM.MSG.DELETE.KV_skybus_keys
			+p $KV.skybus_gateways.shop.prod.g1 -p $KV.skybus_gateways.shop.dev.g1 -p $JS.API.STREAM.CREATE.KV_skybus_gateways
			+p shop.prod.pub.x -p shop.dev.pub.x -p shop.prod.x -p $KV.skybus_routes.shop.prod.http.x
			+p $KV.skybus_answers.shop.prod.once.pay.abc -p $KV.skybus_answers.shop.dev.once.pay.abc +p $KV.skybus_answers.shop.prod.later.abc
			-p $KV.skybus_answers.shop.prod.x +s skybus.kv.skybus_answers.shop.prod.later.* -s skybus.kv.skybus_answers.shop.dev.later.*
			+p $KV.skybus_gateways.shop.prod.g1 -p $KV.skybus_gateways.shop.dev.g1
			+p skybus.http.shop.prod.pay -p skybus.http.shop.dev.pay -s skybus.http.shop.prod.pay
			+p $JS.API.CONSUMER.CREATE.SKYBUS_HTTP.shop=prod.skybus.http.shop.prod.> -p $JS.API.CONSUMER.CREATE.SKYBUS_HTTP.shop=prod.skybus.http.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_HTTP.shop=dev.skybus.http.shop.dev.> +p $JS.API.CONSUMER.MSG.NEXT.SKYBUS_HTTP.shop=prod
			+p $JS.ACK.SKYBUS_HTTP.shop=prod.1.1.1.1.0 -p $JS.ACK.SKYBUS_HTTP.shop=dev.1.1.1.1.0 -p $JS.API.STREAM.PURGE.SKYBUS_HTTP
			+s shop.prod.pub.> +s shop.prod.ev.> -s shop.dev.pub.> -s shop.prod.>
			-p $JS.API.STREAM.INFO.ORDERS -p $JS.API.CONSUMER.CREATE.ORDERS.x.shop.prod.pub.> -p $JS.API.STREAM.MSG.GET.ORDERS
			-p skybus.tmr.0.s.shop.prod.t1
			+p $KV.skybus_files.shop.prod.file.a.b +p $KV.skybus_files.shop.prod.source.a -p $KV.skybus_files.shop.dev.file.a.b
			+p $KV.skybus_leases.shop.prod.files.a -p $KV.skybus_leases.shop.prod.timers.0 +p $JS.API.DIRECT.GET.KV_skybus_files
			-p $JS.API.STREAM.CREATE.KV_skybus_files -p $JS.API.STREAM.PURGE.KV_skybus_files`},
		{auth.UserConfig{Role: auth.Gateway, Streams: []string{"ORDERS"}}, `
			+p $JS.API.STREAM.INFO.ORDERS +p $JS.API.CONSUMER.CREATE.ORDERS.x.shop.prod.pub.> +p $JS.API.STREAM.MSG.GET.ORDERS
			+p $JS.API.CONSUMER.MSG.NEXT.ORDERS.x -p $JS.API.STREAM.DELETE.ORDERS -p $JS.API.STREAM.INFO.OTHER`},
		{auth.UserConfig{Role: auth.Gateway, Timers: true}, `
			+p skybus.tmr.0.s.shop.prod.t1 -p skybus.tmr.0.s.shop.dev.t1`},
	}
}

// timerRoleTests are those of who has to do with timers.
func timerRoleTests() []roleTest {
	return []roleTest{
		{auth.UserConfig{Role: auth.Scheduler}, `
			+s $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.SKYBUS_TMR_3 -s $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.ORDERS
			+s skybus.tmrn.0.shop.prod -s skybus.tmrn.0.shop.dev +p skybus.tmrn.0.shop.prod -p skybus.tmrn.0.shop.dev -s skybus.tmrn.> -s skybus.tmr.> -s shop.prod.svc.orders.get
			+p skybus.tmr.0.s.shop.prod.t1 -p skybus.tmr.0.s.shop.dev.t1 +p skybus.tmr.3.f.shop.prod.t1 -p skybus.tmr.3.f.shop.dev.t1
			+p skybus.tmr.0.r.shop.prod.t1.t1-g-1 -p skybus.tmr.0.r.shop.dev.t1.t1-g-1 -p skybus.tmr.0.o.shop.prod.t1
			+p $JS.API.STREAM.INFO.SKYBUS_TMR_3 -p $JS.API.STREAM.INFO.SKYBUS_TMR_4 -p $JS.API.STREAM.CREATE.SKYBUS_TMR_0
			+p $JS.API.DIRECT.GET.SKYBUS_TMR_0 -p $JS.API.DIRECT.GET.ORDERS -p $JS.API.STREAM.PURGE.SKYBUS_TMR_0
			+p $JS.API.STREAM.MSG.DELETE.SKYBUS_TMR_0 -p $JS.API.STREAM.MSG.DELETE.ORDERS
			+p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=prod.skybus.tmr.0.f.shop.prod.> -p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=prod
			-p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=prod.skybus.tmr.0.f.shop.dev.> -p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=prod.skybus.tmr.0.s.shop.prod.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=dev.skybus.tmr.0.f.shop.dev.> -p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.x.skybus.tmr.0.f.shop.prod.>
			+p $JS.API.CONSUMER.MSG.NEXT.SKYBUS_TMR_3.shop=prod -p $JS.API.CONSUMER.MSG.NEXT.SKYBUS_TMR_0.shop=dev
			+p $JS.ACK.SKYBUS_TMR_0.shop=prod.1.1.1.1.0 -p $JS.ACK.SKYBUS_TMR_0.shop=dev.1.1.1.1.0
			+p skybus.dlq.shop.prod.timer.x -p skybus.dlq.shop.dev.timer.x -p skybus.dlq.shop.prod.async.x -p $JS.API.STREAM.PURGE.SKYBUS_DLQ
			+p $KV.skybus_leases.shop.prod.timers.0 -p $KV.skybus_leases.shop.prod.election.orders -p $KV.skybus_leases.shop.dev.timers.0
			+p $JS.API.STREAM.NAMES +p $JS.API.DIRECT.GET.KV_skybus_secrets -p $KV.skybus_secrets.shop.prod.x -s skybus.kv.skybus_secrets.shop.dev.>
			+p shop.prod.ev.timer.fired.t1 -p shop.dev.ev.timer.fired.t1 -p shop.prod.ev.instance.orders.i1.online
			+p shop.prod.pub.x -p shop.dev.pub.x -p shop.prod.x +p shop.prod.svc.orders.get +p skybus.async.shop.prod.orders.get`},
		{auth.UserConfig{Role: auth.Scheduler, Calls: []string{"orders"}, Shards: 1}, `
			+p shop.prod.svc.orders.get -p shop.prod.svc.pay.refund +p $JS.API.STREAM.INFO.SKYBUS_TMR_0 -p $JS.API.STREAM.INFO.SKYBUS_TMR_1`},
		{auth.UserConfig{Role: auth.Client, Timers: true}, `
			+p skybus.tmr.0.s.shop.prod.t1 -p skybus.tmr.0.s.shop.dev.t1 +p skybus.tmr.3.f.shop.prod.t1 -p skybus.tmr.3.f.shop.dev.t1
			+p $JS.API.STREAM.INFO.SKYBUS_TMR_0 +p $JS.API.DIRECT.GET.SKYBUS_TMR_0 +p $JS.API.STREAM.MSG.DELETE.SKYBUS_TMR_0
			+s $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.SKYBUS_TMR_0 -s $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.ORDERS
			+p $JS.API.DIRECT.GET.SKYBUS_TMR_0.skybus.tmr.0.s.shop.prod.t1 -p $JS.API.DIRECT.GET.SKYBUS_TMR_0.skybus.tmr.0.s.shop.dev.t1
			+p shop.prod.ev.timer.created.t1 -p shop.prod.ev.instance.orders.i1.online +s shop.prod.ev.timer.>
			-p $JS.API.CONSUMER.CREATE.SKYBUS_TMR_0.shop=prod.skybus.tmr.0.f.shop.prod.> -p $KV.skybus_leases.shop.prod.timers.0 -p shop.prod.pub.x
			-p $JS.API.DIRECT.GET.KV_skybus_secrets -p skybus.dlq.shop.prod.timer.x +p skybus.tmrn.0.shop.prod -p skybus.tmrn.0.shop.dev -s skybus.tmrn.0.shop.prod`},
		{auth.UserConfig{Role: auth.Service, Services: []string{"orders"}, Timers: true}, `
			+p skybus.tmr.0.s.shop.prod.t1 -p skybus.tmr.0.s.shop.dev.t1 +s shop.prod.svc.orders.get`},
	}
}

// mirrorRoleTests are those of who has to do with mirrors.
func mirrorRoleTests() []roleTest {
	return []roleTest{
		{auth.UserConfig{Role: auth.Mirror}, `
			+p skybus.mir.shop.prod.main.63 -p skybus.mir.shop.dev.main.63 +p skybus.mirw.shop.prod.main.a -p skybus.mirw.shop.dev.main.a
			+p skybus.mirl.shop.prod.main.a -p skybus.mirl.shop.dev.main.a +p skybus.mirl.shop.prod.main.a.7 -p skybus.mirl.shop.dev.main.a.7 +s skybus.mirwn.shop.prod.main.* -s skybus.mirwn.shop.dev.main.* -s skybus.mir.shop.prod.main.*
			+p skybus.dlq.shop.prod.mirror.main.a.7 -p skybus.dlq.shop.dev.mirror.main.a.7 -p skybus.dlq.shop.prod.timer.x -p $JS.API.STREAM.PURGE.SKYBUS_DLQ
			+p $KV.skybus_mirrors.shop.prod.main.a -p $KV.skybus_mirrors.shop.dev.main.a +s skybus.kv.skybus_mirrors.shop.prod.> -s skybus.kv.skybus_mirrors.shop.dev.>
			+p $KV.skybus_leases.shop.prod.mirror.main -p $KV.skybus_leases.shop.dev.mirror.main -p $KV.skybus_leases.shop.prod.timers.0
			+p $JS.API.STREAM.PURGE.SKYBUS_MIR -p $JS.API.STREAM.PURGE.SKYBUS_MIRW -p $JS.API.STREAM.CREATE.SKYBUS_MIR -p $JS.API.STREAM.DELETE.SKYBUS_MIR
			+p $JS.API.CONSUMER.CREATE.SKYBUS_MIR.x_1.skybus.mir.shop.prod.main.* -p $JS.API.CONSUMER.CREATE.SKYBUS_MIR.x_1.skybus.mir.shop.dev.main.*
			-p $JS.API.CONSUMER.CREATE.SKYBUS_MIR.x_1 -p $JS.API.CONSUMER.CREATE.SKYBUS_MIR -p $JS.API.CONSUMER.CREATE.SKYBUS_DLQ.x.skybus.dlq.shop.prod.>
			+p $JS.API.CONSUMER.CREATE.SKYBUS_DLQ.x.skybus.dlq.shop.prod.mirror.main.*.* +p $JS.API.CONSUMER.CREATE.SKYBUS_MIRL.x.skybus.mirl.shop.prod.main.a
			+p $O.skybus_mirror_bodies.C.abc +p $O.skybus_mirror_bodies.M.abc +p $JS.API.STREAM.PURGE.OBJ_skybus_mirror_bodies +p $JS.API.DIRECT.GET.SKYBUS_MIRL
			+p _INBOX.x.y -s _INBOX.> -p shop.prod.svc.orders.get -p $KV.skybus_instances.shop.prod.orders.i1 -p skybus.async.shop.prod.orders.get`},
	}
}

// Each role, on a server.
func TestRoles(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	account := newAccount(t, op, auth.AccountConfig{})
	s := start(t, op, account)
	for _, tt := range slices.Concat(roleTests(), gatewayRoleTests(), timerRoleTests(), mirrorRoleTests()) {
		t.Run(fmt.Sprint(tt.user.Role, tt.user.Services, tt.user.Calls), func(t *testing.T) {
			t.Parallel()
			nc, refused := login(t, s, newUser(t, account, tt.user))
			words := strings.Fields(tt.want)
			for i := 0; i < len(words); i += 2 {
				try, subject := mayPublish, words[i+1]
				if words[i][1] == 's' {
					try = maySubscribe
				}
				if got := try(t, nc, refused, subject); got != (words[i][0] == '+') {
					t.Errorf("%s %s: allowed is %v", words[i], subject, got)
				}
			}
		})
	}
}
