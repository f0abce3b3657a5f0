package httpapi

import "github.com/skybus-io/skybus/bus"

// alreadyDue tells whether a timer could not be changed because it is being delivered.
func alreadyDue(e *bus.Error) bool {
	return e.Code == bus.FailedPrecondition && e.Details["reason"] == "already_due"
}
