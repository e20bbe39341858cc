package conntrack

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// An End is one end of flows: an address and a port of a protocol. Protocol 0 is the address alone, for what bears no
// ports (fragments).
type End struct {
	Addr  netip.Addr
	Proto uint8
	Port  uint16
}

// Config says whom a Mirror tells, on the goroutine that runs it, or that opens it.
type Config struct {
	// Set says that an end has translated flows, or has none any more.
	Set func(e End, has bool) error
	// Hears says whether Set is called for all of them, shortly after the kernel has begun to translate one; and if
	// not, why.
	Hears func(hears bool, why error)
	// Max bounds the ends.
	Max int
	// IPv6 has the flows of IPv6 followed, too.
	IPv6 bool
}

// Why a Mirror does not hear of all flows.
var (
	ErrEventsOff = errors.New("net.netfilter.nf_conntrack_events is 0")
	ErrTooMany   = errors.New("the kernel translates more flows than there is room for")
)

// resyncInterval is after what time all is read anew: the kernel tells nobody of the end of flows that began before
// anybody listened (nf_conntrack_events 2).
const resyncInterval = 5 * time.Minute

// pace is how long a Mirror rests after it has read events: so it is woken a hundred times a second at most.
const pace = 10 * time.Millisecond

// A Mirror keeps which ends have flows that the kernel translates.
type Mirror struct {
	cfg    Config
	events *events
	flows  map[uint32]entry // by the kernel's ID
	ends   map[End]int      // how many flows each has
	round  uint8            // of the last time that all was read
	why    error            // it has not heard of all
	told   bool
	hears  bool // what was told
}

type entry struct {
	flow
	round uint8
}

// ends are all that a flow counts for: who sends, and whom answers are for, which mostly are the same; and the address.
func (f *flow) ends() [3]End {
	return [...]End{{f.client, f.proto, f.port}, {f.client, f.proto, f.answer}, {Addr: f.client}}
}

// List calls take for each flow that the kernel translates in the network namespace of the calling thread, with whom it
// is from, and for.
func List(ctx context.Context, take func(from, to netip.Addr)) error {
	return dump(ctx, func(f flow) { take(f.client, f.to) })
}

// Open reads which flows there are, in the network namespace of the calling thread, and has the kernel tell of changes.
func Open(ctx context.Context, cfg Config) (*Mirror, error) {
	e, err := listen()
	if err != nil {
		return nil, err
	}
	m := newMirror(cfg)
	m.events = e
	if err := m.resync(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return m, nil
}

func newMirror(cfg Config) *Mirror {
	return &Mirror{cfg: cfg, flows: map[uint32]entry{}, ends: map[End]int{}}
}

// Run follows the kernel until ctx ends. It is called once.
func (m *Mirror) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, m.events.interrupt)()
	next := time.Now().Add(resyncInterval)
	for ctx.Err() == nil {
		if err := m.events.wait(time.Until(next)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		err := m.events.read(func(f flow, ends bool) {
			if ends {
				m.remove(f.id)
			} else {
				m.add(f)
			}
		})
		if lost := errors.Is(err, errLost); err != nil && !lost {
			return err
		} else if lost || !time.Now().Before(next) {
			if err := m.resync(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			next = time.Now().Add(resyncInterval)
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
		}
	}
	return nil
}

// Close ends it, and takes back what was said. No Run may be under way.
func (m *Mirror) Close() error {
	for e := range m.ends {
		_ = m.cfg.Set(e, false) // what stays makes nothing wrong: see Judges of forward/claim
	}
	return m.events.close()
}

// resync reads all flows, and forgets those that have gone.
func (m *Mirror) resync(ctx context.Context) error {
	m.round++
	m.why = nil
	if eventsOff() {
		m.why = ErrEventsOff
	}
	if err := dump(ctx, m.add); err != nil {
		return err
	}
	m.sweep()
	m.tell()
	return nil
}

// sweep forgets the flows that the last round has not seen.
func (m *Mirror) sweep() {
	for id, f := range m.flows {
		if f.round != m.round {
			m.remove(id)
		}
	}
}

func (m *Mirror) tell() {
	if hears := m.why == nil; !m.told || m.hears != hears {
		m.told, m.hears = true, hears
		m.cfg.Hears(hears, m.why)
	}
}

func (m *Mirror) lacks(why error) {
	m.why = why
	m.tell()
}

// add notes a flow, or that it is there still.
func (m *Mirror) add(f flow) {
	if f.hidden || f.client.Is6() && !m.cfg.IPv6 {
		return
	}
	have, known := m.flows[f.id]
	if known && have.flow == f {
		m.flows[f.id] = entry{f, m.round}
		return
	}
	m.remove(f.id)
	ends := f.ends()
	for i, e := range ends {
		if !m.count(e) {
			for _, e := range ends[:i] {
				m.discount(e)
			}
			return
		}
	}
	m.flows[f.id] = entry{f, m.round}
}

func (m *Mirror) remove(id uint32) {
	if f, known := m.flows[id]; known {
		delete(m.flows, id)
		for _, e := range f.ends() {
			m.discount(e)
		}
	}
}

func (m *Mirror) count(e End) bool {
	if m.ends[e] == 0 {
		err := error(ErrTooMany)
		if len(m.ends) < m.cfg.Max {
			err = m.cfg.Set(e, true)
		}
		if err != nil {
			m.lacks(err)
			return false
		}
	}
	m.ends[e]++
	return true
}

func (m *Mirror) discount(e End) {
	if m.ends[e]--; m.ends[e] == 0 {
		delete(m.ends, e)
		if err := m.cfg.Set(e, false); err != nil {
			m.lacks(err)
		}
	}
}
