package http

import (
	"slices"
	"testing"
)

// Who reads what it missed by itself is handed over to the topic where that goes on: no event between is lost, and none is there twice, whichever of both is ahead.
func TestTopicHandover(t *testing.T) {
	t.Parallel()
	tp := newTopic(nil, topicKey{})
	attach := func(s *subscriber, after uint64) bool {
		attached, renewed := tp.attach(s, place{after: after, epoch: tp.epoch})
		if renewed {
			t.Error("the stream is another one")
		}
		return attached
	}
	numbers := func(s *subscriber) (all []uint64) {
		events, _, _ := s.take()
		for _, e := range events {
			all = append(all, e.sequence)
		}
		return all
	}
	publish := func(first, last uint64) {
		for n := first; n <= last; n++ {
			tp.publish(newEvent(eventID{n, "a"}, "", nil))
		}
	}
	publish(1, 8)
	behind, same, ahead := newSubscriber(10), newSubscriber(10), newSubscriber(10)
	if attach(behind, 7) {
		t.Error("who has up to 7 is handed over by a topic that has given out 8 already: it would never hear of it")
	}
	if !attach(same, 8) || !attach(ahead, 10) {
		t.Error("who has all that the topic has given out is not handed over")
	}
	publish(9, 12)
	if !attach(behind, 12) {
		t.Error("once it has caught up it is not handed over")
	}
	publish(13, 13)
	for name, tt := range map[string]struct {
		s    *subscriber
		want []uint64
	}{"behind": {behind, []uint64{13}}, "same": {same, []uint64{9, 10, 11, 12, 13}}, "ahead": {ahead, []uint64{11, 12, 13}}} {
		if got := numbers(tt.s); !slices.Equal(got, tt.want) {
			t.Errorf("%s hears %d, want %d", name, got, tt.want)
		}
	}
	if attached, renewed := tp.attach(newSubscriber(10), place{after: 100, epoch: tp.epoch + 1}); attached || !renewed {
		t.Error("who knows another stream of that name is handed over")
	}
	tp.detach(same)
	publish(14, 14)
	if got := numbers(same); got != nil {
		t.Errorf("who has left hears %d", got)
	}
}
