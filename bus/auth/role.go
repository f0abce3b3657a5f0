package auth

import "github.com/nats-io/jwt/v2"

// Role is a set of permissions, see [Role.Permissions].
type Role string

// The roles of an account.
const (
	// Service serves the services it is made for, and nothing else; it keeps their records, their liveness and their leases
	// of election, and may do what a Client may.
	Service Role = "service"
	// Client calls services, runs routes, and reads and watches instances, routes and configuration. It is meant to change nothing
	// but what the services it calls change; what NATS leaves open there, [Role.Permissions] says.
	Client Role = "client"
	// Router runs routes as the service "route" and does asynchronous steps, as `skybus router` does, and may do what a Client
	// may. It may not make room among dead letters.
	Router Role = "router"
	// Gateway brings requests from outside to services and routes, as `skybus gateway` does: what a Client may, publish what initiators publish,
	// and hear it, keep answers and do the requests that are answered later, and read the hashes of API keys, which it cannot make. It also does what
	// `skybus tcp` and `skybus files` do: it keeps how far files are, and the leases of who works on them.
	Gateway Role = "gateway"
	// Agent removes the records of dead instances, as `skybus agent` does: it may write the records of its namespace, ask
	// instances whether they live, tell events of them, and read what a Client reads. It calls nobody.
	Agent Role = "agent"
	// Scheduler fires and delivers the timers of its namespace, as `skybus scheduler` does: it keeps them, calls what a Client may, publishes
	// what timers publish, signs with the namespace's secrets and stores what was given up. It may not make secrets or remove
	// what was given up.
	Scheduler Role = "scheduler"
	// Mirror serves clients of the mirrors of its namespace and sends their writes to the backends, as `skybus mirror run` does: it stores writes, what became of them and
	// what was parked, removes writes that all have applied, and keeps the records of backends. It may not remove what was parked, so it cannot retry or drop it.
	Mirror Role = "mirror"
	// Admin may everything in its account: make the buckets and streams, edit routes and configuration, stop instances.
	// Programs that run for long do without it where they can.
	Admin Role = "admin"
)

// Roles are all roles of an account.
func Roles() []Role { return []Role{Service, Client, Router, Gateway, Agent, Scheduler, Mirror, Admin} }

// Permissions are subjects that users of a role may publish to and subscribe to; nothing else is allowed. {{...}} stands for
// what a server fills in from the user: its public key, or the tags app, env, svc (a service it serves), call (a service
// it calls; * for all), timers, stream (of a gateway), event, account and shard (for who may set timers: "tmr", "timer", "INFO" and each stream that holds some). A tag that a user has
// several of makes as many subjects, one that it lacks none.
type Permissions struct {
	Publish   []string
	Subscribe []string
}

// Building blocks of the templates.
const (
	namespace = "{{tag(app)}}.{{tag(env)}}"
	served    = "{{tag(svc)}}"
	called    = "{{tag(call)}}"

	timerSubjects = "skybus.{{tag(timers)}}."                // of those who may set timers
	timerNotes    = "skybus.{{tag(timers)}}n.*." + namespace // by which they tell who fires them
	shard         = "{{tag(shard)}}"
	execConsumer  = shard + ".{{tag(app)}}={{tag(env)}}"

	heard = "{{tag(stream)}}" // streams whose events a gateway gives out

	laterConsumer = "SKYBUS_HTTP.{{tag(app)}}={{tag(env)}}"  // of the namespace
	asyncConsumer = "SKYBUS_ASYNC.{{tag(app)}}={{tag(env)}}" // of the namespace
)

// routerService is what a [Router] serves.
const routerService = "route"

// Permissions are those of the role, nil subjects for what the role does not know.
//
// Nobody is allowed responses by themselves (allow_responses in NATS): with those, who sends a request chooses the subject
// that the service publishes its answer to, also one that neither of the two may publish to. All may publish to inboxes
// instead; those of others cannot be guessed.
//
// These hold for what a user publishes, not for what JetStream does: its answers go to whatever reply subject a request has. Who
// may ask for any bucket can so have an answer stored under any key of the account, which destroys what was there. Package kv
// believes none of the answers that hold a value as another stored it, and route does none of them as a step. Nor do they hold
// for what a header makes of a write: who may write one liveness or lease can remove all of them (Nats-Rollup). Against such
// malice only an account of its own helps.
func (r Role) Permissions() Permissions {
	switch r {
	case Service:
		return union(client(), service(), timers())
	case Client:
		return union(client(), timers())
	case Router:
		return union(client(), service(), worker())
	case Gateway:
		return union(client(), timers(), gateway(), files())
	case Agent:
		return union(reader(), agent())
	case Scheduler:
		return union(client(), timers(), scheduler())
	case Mirror:
		return union(reader(), mirror())
	case Admin:
		return Permissions{Publish: []string{">"}, Subscribe: []string{">"}}
	}
	return Permissions{}
}

func client() Permissions {
	return union(reader(), Permissions{Publish: []string{
		"_INBOX.>", // credits of a stream go to the service's inbox
		namespace + ".svc." + called + ".>",
		namespace + ".ver." + called + ".>",
		namespace + ".one." + called + ".>",
		namespace + ".inst." + called + ".>",
		namespace + ".all." + called + ".>",
		namespace + ".ctl." + called + ".*.ping",
		namespace + ".ctl." + called + ".all.cancel",
		"skybus.async." + namespace + "." + called + ".>",
		"$JS.API.STREAM.INFO.SKYBUS_ASYNC",
		"$SRV.>",
	}})
}

// reader is what all roles may: to read what is kept of their namespace.
func reader() Permissions {
	p := Permissions{Subscribe: []string{
		"_INBOX.{{subject()}}.>",
		namespace + ".ev.>",
	}}
	for _, bucket := range []string{"skybus_instances", "skybus_liveness", "skybus_config", "skybus_routes", "skybus_leases"} {
		p = union(p, follower(bucket))
	}
	return p
}

// follower is what reading and following a bucket takes.
func follower(bucket string) Permissions {
	return Permissions{
		Publish: []string{
			"$JS.API.STREAM.INFO.KV_" + bucket,
			"$JS.API.STREAM.MSG.GET.KV_" + bucket,
			"$JS.API.DIRECT.GET.KV_" + bucket,
		},
		Subscribe: []string{
			"skybus.kv." + bucket + "." + namespace + ".>",
			"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_" + bucket,
		},
	}
}

// service is what a service may beside what a client may.
func service() Permissions {
	p := Permissions{
		Publish: []string{
			"_R_.>", // answers across accounts
			namespace + ".ev.instance." + served + ".>",
			namespace + ".ctl." + served + ".*.ping", // to learn whether an id is free
			"$KV.skybus_instances." + namespace + "." + served + ".*",
			"$KV.skybus_liveness." + namespace + "." + served + ".*",
			"$KV.skybus_leases." + namespace + ".election." + served,
			"$KV.skybus_leases." + namespace + ".election." + served + ".>",
		},
		Subscribe: []string{
			namespace + ".svc." + served + ".>",
			namespace + ".ver." + served + ".>",
			namespace + ".one." + served + ".>",
			namespace + ".inst." + served + ".>",
			namespace + ".all." + served + ".>",
			namespace + ".ctl." + served + ".>",
		},
	}
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		p.Subscribe = append(p.Subscribe, "$SRV."+verb, "$SRV."+verb+"."+served, "$SRV."+verb+"."+served+".*")
	}
	return p
}

// worker is what doing asynchronous steps takes: the consumer of the namespace and no other.
func worker() Permissions {
	return Permissions{Publish: []string{
		"$JS.API.CONSUMER.CREATE." + asyncConsumer + ".skybus.async." + namespace + ".>",
		"$JS.API.CONSUMER.INFO." + asyncConsumer,
		"$JS.API.CONSUMER.MSG.NEXT." + asyncConsumer,
		"$JS.ACK." + asyncConsumer + ".>",
		"$JS.API.STREAM.INFO.SKYBUS_DLQ",
		"skybus.dlq." + namespace + ".async.*",
	}}
}

// gateway is what bringing requests from outside takes beside what a client may.
func gateway() Permissions {
	const answers = "skybus_answers"
	return union(follower("skybus_keys"), follower(answers), follower("skybus_gateways"), Permissions{
		Publish: []string{
			namespace + ".pub.>",
			"$KV." + answers + "." + namespace + ".once.*.*",
			"$KV." + answers + "." + namespace + ".later.*",
			"$KV.skybus_gateways." + namespace + ".*",
			"skybus.http." + namespace + ".*",
			"$JS.API.STREAM.INFO.SKYBUS_HTTP",
			"$JS.API.CONSUMER.CREATE." + laterConsumer + ".skybus.http." + namespace + ".>",
			"$JS.API.CONSUMER.INFO." + laterConsumer,
			"$JS.API.CONSUMER.MSG.NEXT." + laterConsumer,
			"$JS.ACK." + laterConsumer + ".>",
			"$JS.API.STREAM.INFO." + heard,
			"$JS.API.STREAM.MSG.GET." + heard,
			"$JS.API.CONSUMER.CREATE." + heard + ".>",
			"$JS.API.CONSUMER.INFO." + heard + ".*",
			"$JS.API.CONSUMER.MSG.NEXT." + heard + ".*",
			"$JS.API.CONSUMER.DELETE." + heard + ".*",
		},
		Subscribe: []string{namespace + ".pub.>"},
	})
}

// files is what sending the records of files takes beside.
func files() Permissions {
	return union(follower("skybus_files"), Permissions{Publish: []string{
		"$KV.skybus_files." + namespace + ".file.*.*",
		"$KV.skybus_files." + namespace + ".source.*",
		"$KV.skybus_leases." + namespace + ".files.*",
	}})
}

// timers is what it takes to set, find and change timers, of users with [UserConfig].Timers.
func timers() Permissions {
	return Permissions{Publish: []string{
		timerSubjects + "*.s." + namespace + ".*",
		timerSubjects + "*.f." + namespace + ".*", // to fire by hand
		timerSubjects + "*.r." + namespace + ".*.*",
		timerNotes,
		namespace + ".ev.{{tag(event)}}.>",
		"$JS.API.{{tag(account)}}", // how full the store is
		"$JS.API.STREAM.INFO." + shard,
		"$JS.API.STREAM.MSG.GET." + shard,
		"$JS.API.STREAM.MSG.DELETE." + shard, // to cancel in a full store
		"$JS.API.DIRECT.GET." + shard,
		"$JS.API.DIRECT.GET." + shard + ".skybus.tmr.*.*." + namespace + ".>",
	}, Subscribe: []string{
		"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + shard, // whose clock it goes by
	}}
}

// scheduler is what firing and delivering takes: the consumers of the namespace and no others.
func scheduler() Permissions {
	return Permissions{
		Publish: []string{
			"$JS.API.CONSUMER.CREATE." + execConsumer + ".skybus.tmr.*.f." + namespace + ".>",
			"$JS.API.CONSUMER.INFO." + execConsumer,
			"$JS.API.CONSUMER.MSG.NEXT." + execConsumer,
			"$JS.ACK." + execConsumer + ".>",
			"$JS.API.STREAM.INFO.SKYBUS_DLQ",
			"skybus.dlq." + namespace + ".timer.*",
			"$KV.skybus_leases." + namespace + ".timers.*",
			"$JS.API.STREAM.INFO.KV_skybus_secrets",
			"$JS.API.STREAM.MSG.GET.KV_skybus_secrets",
			"$JS.API.DIRECT.GET.KV_skybus_secrets",
			"$JS.API.STREAM.NAMES", // to learn whether a stream confirms what timers publish
			namespace + ".pub.>",
		},
		Subscribe: []string{
			"skybus.tmrn.*." + namespace,
			"skybus.kv.skybus_secrets." + namespace + ".>",
			"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_skybus_secrets",
		},
	}
}

// mirror is what storing and sending the writes of mirrors takes. A purge, and what is read by sequence, cannot be kept to a namespace.
func mirror() Permissions {
	const bodies = "skybus_mirror_bodies"
	p := Permissions{
		Publish: []string{
			"_INBOX.>", // answers for clients of another process
			"skybus.mir." + namespace + ".*.*",
			"skybus.mirw." + namespace + ".*.*",
			"skybus.mirl." + namespace + ".*.*",
			"skybus.mirl." + namespace + ".*.*.*",
			"skybus.dlq." + namespace + ".mirror.*.*.*",
			"$O." + bodies + ".C.*",
			"$O." + bodies + ".M.*",
			"$KV.skybus_mirrors." + namespace + ".*.*",
			"$KV.skybus_leases." + namespace + ".mirror.*",
			"$JS.FC.OBJ_" + bodies + ".>", // how objects are read
			"$JS.API.STREAM.PURGE.SKYBUS_MIR",
			"$JS.API.STREAM.PURGE.OBJ_" + bodies,
			"$JS.API.DIRECT.GET.SKYBUS_MIR.skybus.mir." + namespace + ".>",
			"$JS.API.DIRECT.GET.OBJ_" + bodies + ".$O." + bodies + ".>",
			"$JS.API.CONSUMER.CREATE.SKYBUS_MIR.*.skybus.mir." + namespace + ".>",
			"$JS.API.CONSUMER.CREATE.SKYBUS_MIRL.*.skybus.mirl." + namespace + ".>",
			"$JS.API.CONSUMER.CREATE.SKYBUS_DLQ.*.skybus.dlq." + namespace + ".mirror.>",
			"$JS.API.CONSUMER.CREATE.OBJ_" + bodies + ".*.$O." + bodies + ".>",
		},
		Subscribe: []string{
			"skybus.mirwn." + namespace + ".>",
			"skybus.kv.skybus_mirrors." + namespace + ".>",
			"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_skybus_mirrors",
		},
	}
	for _, stream := range []string{"SKYBUS_MIR", "SKYBUS_MIRW", "SKYBUS_MIRL", "SKYBUS_DLQ", "KV_skybus_mirrors", "OBJ_" + bodies} {
		p.Publish = append(p.Publish, "$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.MSG.GET."+stream, "$JS.API.DIRECT.GET."+stream)
	}
	for _, stream := range []string{"SKYBUS_MIR", "SKYBUS_MIRL", "SKYBUS_DLQ", "OBJ_" + bodies} {
		p.Publish = append(p.Publish, "$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.MSG.NEXT."+stream+".*", "$JS.API.CONSUMER.DELETE."+stream+".*")
	}
	return p
}

// agent is what removing the dead takes.
func agent() Permissions {
	return Permissions{Publish: []string{
		"$KV.skybus_instances." + namespace + ".*.*",
		namespace + ".ctl.*.*.ping",
		namespace + ".ev.instance.>",
	}}
}

func union(all ...Permissions) Permissions {
	var u Permissions
	for _, p := range all {
		u.Publish, u.Subscribe = append(u.Publish, p.Publish...), append(u.Subscribe, p.Subscribe...)
	}
	return u
}

// template is the role as the account carries it.
func (r Role) template() jwt.UserPermissionLimits {
	p := r.Permissions()
	t := jwt.NewUserScope().Template // without limits
	t.Pub.Allow, t.Sub.Allow = p.Publish, p.Subscribe
	t.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess}
	return t
}
