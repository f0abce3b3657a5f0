package bus

import "strings"

// Queue groups of the subjects that have one.
const (
	QueueService = "svc"
	QueueVersion = "ver"
	QueueOneWay  = "one"
)

// ServiceSubject is where every registered instance of service takes requests for endpoint, in the queue group
// [QueueService]. As in all subject builders the tokens must have been checked by [CheckToken].
func (n Namespace) ServiceSubject(service, endpoint string) string {
	return n.subject("svc", service, endpoint)
}

// VersionSubject is where the instances of one version take requests, in the queue group [QueueVersion].
func (n Namespace) VersionSubject(service, version, endpoint string) string {
	return n.subject("ver", service, VersionToken(version), endpoint)
}

// OneWaySubject is where one registered instance takes one-way messages, in the queue group [QueueOneWay].
func (n Namespace) OneWaySubject(service, endpoint string) string {
	return n.subject("one", service, endpoint)
}

// InstanceSubject is where one instance takes requests and one-way messages, registered or not.
func (n Namespace) InstanceSubject(service, instance, endpoint string) string {
	return n.subject("inst", service, instance, endpoint)
}

// AllSubject is where every instance hears a broadcast.
func (n Namespace) AllSubject(service, endpoint string) string {
	return n.subject("all", service, endpoint)
}

// ControlSubject is where one instance takes a control message; the verb "*" subscribes to all of them.
func (n Namespace) ControlSubject(service, instance, verb string) string {
	return n.subject("ctl", service, instance, verb)
}

// InstanceEventSubject is where it is told that an instance came, went or changed.
func (n Namespace) InstanceEventSubject(service, instance, event string) string {
	return n.subject("ev", "instance", service, instance, event)
}

// AsyncSubject is the subject in SKYBUS_ASYNC of work for an endpoint.
func (n Namespace) AsyncSubject(service, endpoint string) string {
	return "skybus.async." + n.String() + "." + service + "." + endpoint
}

// DeadLetterSubject is the subject in SKYBUS_DLQ of something that was given up.
func (n Namespace) DeadLetterSubject(kind, id string) string {
	return "skybus.dlq." + n.String() + "." + kind + "." + id
}

func (n Namespace) subject(kind string, tokens ...string) string {
	return n.String() + "." + kind + "." + strings.Join(tokens, ".")
}
