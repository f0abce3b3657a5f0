package scheduler

import (
	"encoding/json"
	"time"
)

// Body is that of a message of a timer with the record, which is written as dead letters have it.
func Body(text string, due time.Time, payload string) ([]byte, error) {
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, err
	}
	r.name = "default.dev.t1"
	return r.encode(due.UnixNano(), DefaultGrace, []byte(payload))
}
