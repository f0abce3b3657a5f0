package mirror

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
)

// alarmSlack is how far below a level, in percent, a stream is that has left it. One that is about half full all the time is told of once.
const alarmSlack = 5

// isCrowded tells whether more than half of a stream's room is used.
func isCrowded(info *jetstream.StreamInfo) bool {
	limit := info.Config.MaxBytes
	return limit > 0 && info.State.Bytes*100 > uint64(limit)*alarmShare
}

// fullness says on the log when a stream is more than half full, when that gets notably worse, also once more after it got better, and when it is over.
type fullness struct {
	said   int // the level of the last warning that still holds, 0 for none
	before int // that of the last look
}

// fullLevel is how full a stream is as far as that is worth a line, in percent.
func fullLevel(info *jetstream.StreamInfo, percent uint64) int {
	switch {
	case percent >= 90:
		return 90
	case percent >= 75:
		return 75
	case isCrowded(info):
		return alarmShare
	}
	return 0
}

// look warns of what was so at the last look, too: history, which nobody needs, has been removed since then.
func (f *fullness) look(ctx context.Context, log *slog.Logger, info *jetstream.StreamInfo, about ...any) {
	percent := uint64(0)
	if limit := info.Config.MaxBytes; limit > 0 {
		percent = info.State.Bytes * 100 / uint64(limit)
	}
	level := fullLevel(info, percent)
	lasting := min(level, f.before)
	f.before = level
	about = append([]any{"stream", info.Config.Name, "percent", percent, "bytes", info.State.Bytes, "limit", info.Config.MaxBytes}, about...)
	switch {
	case lasting > f.said:
		f.said = lasting
		log.WarnContext(ctx, "a stream of the mirror is more than half full", about...)
	case f.said > 0 && percent+alarmSlack < alarmShare:
		f.said = 0
		log.InfoContext(ctx, "a stream of the mirror is no longer half full", about...)
	case int(percent)+alarmSlack < f.said: //nolint:gosec // a percentage
		f.said = max(level, alarmShare)
	}
}
