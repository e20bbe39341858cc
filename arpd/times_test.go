package arpd

import (
	"testing"
	"time"
)

func TestAnswerTimes(t *testing.T) {
	var a answerTimes
	for _, took := range []time.Duration{-time.Second, 0, AnswerTimeBounds[0], AnswerTimeBounds[0] + 1, time.Minute} {
		a.observe(took)
	}
	got := a.load()
	want := AnswerTimes{Sum: 2*AnswerTimeBounds[0] + 1 + time.Minute}
	want.Counts[0], want.Counts[1], want.Counts[len(AnswerTimeBounds)] = 3, 1, 1
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for i := 1; i < len(AnswerTimeBounds); i++ {
		if AnswerTimeBounds[i] <= AnswerTimeBounds[i-1] {
			t.Errorf("bound %d does not rise", i)
		}
	}
}
