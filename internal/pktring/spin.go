package pktring

import "time"

// spinner decides how long to look at an empty ring before sleeping. To sleep
// and to be woken costs CPU time, and delays the frame that comes; to look costs
// what the looking lasts. So it goes by how long the ring was empty in the past,
// and takes the time that would have cost least then: nothing where frames are
// far apart, a few microseconds within bursts, more for the answer to a packet
// that has just left.
type spinner struct {
	counts [len(spins) + 1]uint32 // how often the ring was empty that long, the last: longer
	total  uint32
	limit  time.Duration
	most   time.Duration // never longer
}

// spins are the times that there are to choose from, besides none.
var spins = [...]time.Duration{2 * time.Microsecond, 4 * time.Microsecond, 8 * time.Microsecond, 16 * time.Microsecond, 32 * time.Microsecond}

const (
	// sleepCost is what to sleep and to be woken is worth: about 8 µs of CPU time
	// of the thread and of who wakes it, and what the frame waits meanwhile.
	sleepCost = 60 * time.Microsecond
	// remembered is after how many gaps what was before counts half.
	remembered = 64
)

func newSpinner(most time.Duration) spinner {
	return spinner{limit: most, most: most}
}

// note says how long the ring was empty, and works out limit.
func (p *spinner) note(gap time.Duration) {
	i := 0
	for i < len(spins) && gap > spins[i] {
		i++
	}
	p.counts[i]++
	if p.total++; p.total >= remembered {
		p.total = 0
		for i := range p.counts {
			p.counts[i] /= 2
			p.total += p.counts[i]
		}
	}
	p.choose()
}

// choose takes the limit that costs least.
func (p *spinner) choose() {
	rest := time.Duration(p.total) // how many gaps are longer than the limit in question
	least := rest * sleepCost
	p.limit = 0
	spent := time.Duration(0) // looking, in gaps that ended in time
	for i, s := range spins {
		n := time.Duration(p.counts[i])
		rest -= n
		spent += n * s
		if s > p.most {
			break
		}
		if cost := spent + rest*(s+sleepCost); cost < least {
			least, p.limit = cost, s
		}
	}
}
