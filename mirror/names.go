package mirror

import (
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	bucketMirrors  = "skybus_mirrors"
	streamWrites   = "SKYBUS_MIR"
	streamProgress = "SKYBUS_MIRW"
	streamLedger   = "SKYBUS_MIRL"

	subjectWrites   = "skybus.mir."
	subjectProgress = "skybus.mirw."
	feedProgress    = "skybus.mirwn."
	subjectLedger   = "skybus.mirl."

	bucketBodies   = "skybus_mirror_bodies"
	streamBodies   = "OBJ_" + bucketBodies
	subjectChunks  = "$O." + bucketBodies + ".C."
	subjectObjects = "$O." + bucketBodies + ".M."

	leaseKind = "mirror"
	deadKind  = "mirror"

	// settingsName is where the settings of a mirror are among its backends, and how far its writes were removed among what the
	// backends have applied. No backend may have this name.
	settingsName = "_"

	// duplicateWindow is how long the server knows a write again. Who stores one stops trying long before.
	duplicateWindow = 30 * time.Second
	maxPending      = 16384
)

// Headers. Those of NATS messages that are not NATS's own say what the process that stored the write waits for.
const (
	headerSeq         = "Skybus-Seq"
	headerLane        = "Skybus-Lane"
	headerMinSeq      = "Skybus-Min-Seq"
	headerRetry       = "Skybus-Retry" // "true": a parked write, out of its order
	headerIdempotency = "Idempotency-Key"
	headerAnswerTo    = "Skybus-Answer-To" // subject
	headerAck         = "Skybus-Ack"       // policy
	headerObject      = "Skybus-Object"    // where the body is, if not in the message

	headerMsgID     = "Nats-Msg-Id"
	headerExpectSeq = "Nats-Expected-Last-Subject-Sequence"
)

// space is where a mirror's subjects and keys live.
type space struct {
	ns     bus.Namespace
	mirror string
}

func (s space) write(lane int) string {
	return subjectWrites + s.ns.String() + "." + s.mirror + "." + strconv.Itoa(lane)
}

func (s space) writes() string { return subjectWrites + s.ns.String() + "." + s.mirror + ".*" }

func (s space) progress(backend string) string {
	return subjectProgress + s.ns.String() + "." + s.mirror + "." + backend
}

func (s space) ledger(backend string) string {
	return subjectLedger + s.ns.String() + "." + s.mirror + "." + backend
}

// retry is where in the ledger a backend's answer is to a write that was parked and tried again.
func (s space) retry(backend string, seq uint64) string {
	return s.ledger(backend) + "." + strconv.FormatUint(seq, 10)
}

func (s space) retries() string { return s.ledger("*") + ".*" }

func (s space) feed() string { return feedProgress + s.ns.String() + "." + s.mirror + ".*" }

func (s space) key(backend string) string { return s.ns.Key(s.mirror, backend) }

// lastToken is the backend, or the lane, that a subject or key ends in.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
