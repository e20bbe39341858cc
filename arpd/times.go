package arpd

import (
	"sync/atomic"
	"time"
)

// AnswerTimeBounds are the upper bounds of the classes of AnswerTimes; the last
// class has none.
var AnswerTimeBounds = [...]time.Duration{5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond,
	250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, time.Second}

// AnswerTimes says how long answers took: from when the kernel received the request
// (SO_TIMESTAMPNS) until the reply was handed to the interface. Only a Responder
// with Options.Timed has them.
type AnswerTimes struct {
	Counts [len(AnswerTimeBounds) + 1]uint64 // by class
	Sum    time.Duration
}

// answerTimes has one writer, Run, and any number of readers.
type answerTimes struct {
	counts [len(AnswerTimeBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // ns
}

// observe counts an answer. A clock that was set meanwhile makes it one of no time.
func (a *answerTimes) observe(took time.Duration) {
	took = max(took, 0)
	class := 0
	for class < len(AnswerTimeBounds) && took > AnswerTimeBounds[class] {
		class++
	}
	a.counts[class].Add(1)
	a.sum.Add(int64(took))
}

func (a *answerTimes) load() (t AnswerTimes) {
	for i := range a.counts {
		t.Counts[i] = a.counts[i].Load()
	}
	t.Sum = time.Duration(a.sum.Load())
	return t
}
