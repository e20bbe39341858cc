package bench

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// simulated is a forwarder of known properties behind a generator of a known ceiling.
type simulated struct {
	capacity float64        // frames a second beyond which all are lost; 0: none
	ceiling  float64        // the generator's
	floor    float64        // the chance of each frame to be lost at any rate
	jitter   func() float64 // by which a trial's capacity differs
	trials   int
	seconds  float64
}

func (s *simulated) trial(rate float64, d time.Duration) (Offer, error) {
	s.trials++
	s.seconds += d.Seconds()
	if rate == 0 || rate > s.ceiling {
		rate = s.ceiling
	}
	capacity := s.capacity
	if s.jitter != nil {
		capacity *= s.jitter()
	}
	sent := rate * d.Seconds()
	got := math.Min(sent, capacity*d.Seconds())
	o := Offer{Rate: rate, Tally: Tally{Sent: uint64(sent)}}
	lost := sent - got
	if s.floor > 0 { // a Poisson number of stray losses, near enough
		lost += math.Floor(got*s.floor + rand.ExpFloat64() - 0.5)
	}
	o.Tally.Lost = uint64(math.Max(0, lost))
	o.Tally.Received = o.Tally.Sent - min(o.Tally.Lost, o.Tally.Sent)
	o.Received = float64(o.Tally.Received) / d.Seconds()
	return o, nil
}

func (s *simulated) search(hint float64) Search {
	return Search{Trial: s.trial, Full: 2 * time.Second, Resolution: 0.02, Again: 1, Hint: hint}
}

func TestSearchKnownCapacity(t *testing.T) {
	for _, capacity := range []float64{9e5, 5e5, 123456, 50000, 8000} {
		for _, hint := range []float64{0, capacity, capacity * 0.98, capacity * 1.5, capacity / 3} {
			s := &simulated{capacity: capacity, ceiling: 1e6}
			f, err := s.search(hint).Run()
			if err != nil || f.Rate > capacity || f.Rate < 0.97*capacity || f.Limited {
				t.Errorf("capacity %v, hint %v: found %v (limited %v), %v", capacity, hint, f.Rate, f.Limited, err)
			}
			if s.trials > 30 || f.Trials != s.trials {
				t.Errorf("capacity %v, hint %v: %d trials, %d said", capacity, hint, s.trials, f.Trials)
			}
		}
	}
}

// A good hint is there to save time.
func TestSearchHint(t *testing.T) {
	blind, told := &simulated{capacity: 4e5, ceiling: 1e6}, &simulated{capacity: 4e5, ceiling: 1e6}
	// What arrives of an overload says nothing here.
	hide := func(s *simulated) func(float64, time.Duration) (Offer, error) {
		return func(rate float64, d time.Duration) (Offer, error) {
			o, err := s.trial(rate, d)
			o.Received = 0
			return o, err
		}
	}
	for s, hint := range map[*simulated]float64{blind: 0, told: 4e5} {
		search := s.search(hint)
		search.Trial = hide(s)
		if f, err := search.Run(); err != nil || f.Rate < 0.97*4e5 {
			t.Fatalf("hint %v: found %v, %v", hint, f.Rate, err)
		}
	}
	if told.seconds >= blind.seconds {
		t.Errorf("%.1f s with a hint, %.1f s without", told.seconds, blind.seconds)
	}
}

// The forwarder can do more than the generator: that is said.
func TestSearchBeyondGenerator(t *testing.T) {
	s := &simulated{capacity: 3e6, ceiling: 1e6}
	f, err := s.search(0).Run()
	if err != nil || f.Rate != 1e6 || !f.Limited || s.trials != 1 {
		t.Errorf("%+v, %v after %d trials", f, err, s.trials)
	}
}

// A generator that gets slower once it is paced cannot make the search go on for ever.
func TestSearchSlowGenerator(t *testing.T) {
	s := &simulated{capacity: 9e5, ceiling: 1e6}
	search := s.search(0)
	search.Trial = func(rate float64, d time.Duration) (Offer, error) {
		if rate > 0 {
			rate = min(rate, 3e5)
		}
		return s.trial(rate, d)
	}
	f, err := search.Run()
	if err != nil || f.Rate != 3e5 || !f.Limited || s.trials > 20 {
		t.Errorf("%v (limited %v), %v after %d trials", f.Rate, f.Limited, err, s.trials)
	}
}

// Losses at any rate: there is no throughput, and the search says so and ends.
func TestSearchLossFloor(t *testing.T) {
	s := &simulated{capacity: 5e5, ceiling: 1e6, floor: 0.01}
	f, err := s.search(0).Run()
	if err != nil || f.Rate != 0 || f.Limited || f.note() == "" || s.trials > 60 {
		t.Errorf("%+v, %v after %d trials", f.Rate, err, s.trials)
	}
	if f.Least.Tally.Lost == 0 || f.Least.Rate > 0.05*1e6 {
		t.Errorf("the least that was tried: %v with %d lost", f.Least.Rate, f.Least.Tally.Lost)
	}
	dead := &simulated{capacity: 0, ceiling: 1e6}
	if f, err := dead.search(0).Run(); err != nil || f.Rate != 0 || dead.trials > 60 {
		t.Errorf("a forwarder that forwards nothing: %v, %v after %d trials", f.Rate, err, dead.trials)
	}
}

// A capacity that is another one in each trial: what is found was without loss in a whole trial, and near.
func TestSearchJitter(t *testing.T) {
	for range 200 {
		s := &simulated{capacity: 5e5, ceiling: 1e6}
		s.jitter = func() float64 { return 0.9 + 0.2*rand.Float64() }
		f, err := s.search(0).Run()
		if err != nil || f.Tally.Lost != 0 || f.Rate < 0.7*5e5 || f.Rate > 1.1*5e5 || s.trials > 60 {
			t.Fatalf("found %v with %d lost, %v after %d trials", f.Rate, f.Tally.Lost, err, s.trials)
		}
	}
}

func TestSearchError(t *testing.T) {
	broken := errors.New("broken")
	n := 0
	s := Search{Full: time.Second, Resolution: 0.02, Trial: func(float64, time.Duration) (Offer, error) {
		if n++; n == 3 {
			return Offer{}, broken
		}
		return Offer{Rate: 1e6, Tally: Tally{Lost: 1}}, nil
	}}
	if _, err := s.Run(); !errors.Is(err, broken) || n != 3 {
		t.Errorf("%v after %d trials", err, n)
	}
}
