package bench

import (
	"fmt"
	"time"
)

// Search looks for the RFC 2544 throughput (26.1): the highest rate at which all frames arrive.
type Search struct {
	// Trial offers a rate for a while, 0 being as fast as the generator goes, and says what came of it.
	Trial func(rate float64, d time.Duration) (Offer, error)
	// Full is how long a trial must be that decides. On the way trials are a quarter of that.
	Full time.Duration
	// Resolution is how close the search gets, as a share of the rate that it found.
	Resolution float64
	// Again is how often a rate at which frames were lost gets another chance: a stall of the machine loses frames at
	// any rate, and says nothing about the forwarder.
	Again int
	// Hint, where it is not 0, is about what is to be expected.
	Hint float64
}

// Offer is a trial's outcome.
type Offer struct {
	Rate     float64 // frames a second that were really offered
	Received float64 // a second
	Tally    Tally
	Latency  Histogram
}

// Found is the outcome of a search.
type Found struct {
	Offer        // the trial that decided; Rate 0: there is no rate without loss
	Limited bool // the generator could offer no more, so the forwarder may be able to do more
	Trials  int
	Least   Offer // where there is no rate without loss: the trial at the least rate
}

// reached is the share of a wanted rate that counts as that rate.
const reached = 0.97

// leastShare is, of the highest rate offered, where a search for any rate without loss ends.
const leastShare = 1.0 / 256

// Run searches. It ends whatever the forwarder does: each step halves what is left, or goes down.
func (s Search) Run() (Found, error) {
	var f Found
	top, err := s.try(&f, 0, s.Full)
	if err != nil {
		return f, err
	}
	if top.Tally.Lost == 0 {
		f.Offer, f.Limited = top, true
		return f, nil
	}
	lo, hi, err := s.bracket(&f, top)
	if err != nil {
		return f, err
	}
	return f, s.decide(&f, lo, hi, top.Rate)
}

// bracket halves the range until it is as narrow as the resolution.
func (s Search) bracket(f *Found, top Offer) (lo, hi float64, err error) {
	hi = top.Rate
	guess := min(top.Received, hi)
	if s.Hint > 0 && s.Hint < hi {
		guess = s.Hint
	}
	guesses := []float64{guess * (1 - s.Resolution/2), guess * (1 + s.Resolution/2)}
	for hi-lo > s.Resolution*hi && hi > leastShare*top.Rate {
		at := (lo + hi) / 2
		if len(guesses) > 0 {
			if g := guesses[0]; g > lo && g < hi {
				at = g
			}
			guesses = guesses[1:]
		}
		o, err := s.try(f, at, s.Full/4)
		switch {
		case err != nil:
			return lo, hi, err
		case o.Tally.Lost > 0:
			hi, f.Limited, f.Least = at, false, o
		case o.Rate < reached*at:
			f.Limited = true
			if o.Rate <= lo {
				return lo, hi, nil
			}
			lo, hi = o.Rate, at
		default:
			lo = at
		}
	}
	return lo, hi, nil
}

// decide tries the rate that was found for the full time, and lower ones while frames are lost there.
func (s Search) decide(f *Found, lo, hi, top float64) error {
	for step := s.Resolution; lo > leastShare*top; step *= 2 {
		o, err := s.try(f, lo, s.Full)
		if err != nil {
			return err
		}
		if o.Tally.Lost == 0 && o.Rate > 0 {
			f.Offer = o
			return nil
		}
		f.Least = o
		lo *= 1 - min(step, 0.5)
	}
	f.Offer, f.Limited = Offer{}, false
	return nil
}

// try offers a rate, again where frames were lost and the rate is not the highest.
func (s Search) try(f *Found, rate float64, d time.Duration) (Offer, error) {
	for again := 0; ; again++ {
		o, err := s.Trial(rate, d)
		f.Trials++
		if err != nil || o.Tally.Lost == 0 || rate == 0 || again == s.Again {
			return o, err
		}
	}
}

// note tells what the found rate alone does not.
func (f Found) note() string {
	switch {
	case f.Rate == 0:
		return fmt.Sprintf("no rate without loss: at %s kpps %.2g %% were lost", number(f.Least.Rate/1e3), f.Least.Tally.LossPercent())
	case f.Limited:
		return "no loss at all: the generator could offer no more beside it"
	}
	return ""
}
