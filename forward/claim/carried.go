package claim

// Carried counts what the programs carried of an interface's frames.
type Carried struct {
	Packets uint64
	Bytes   uint64 // network layer
	Small   uint64 // dropped: padding was to be checksummed
	NoMem   uint64 // dropped: no memory

	Answered   uint64 // ARP requests
	AnsweredND uint64 // neighbour solicitations
}

// Taken is how many frames came to it: sent on or dropped.
func (c *Carried) Taken() uint64 { return c.Packets + c.Small + c.NoMem }

func (c *Carried) add(o Carried) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
	c.Small += o.Small
	c.NoMem += o.NoMem
	c.Answered += o.Answered
	c.AnsweredND += o.AnsweredND
}

// Carried are the counters of an interface.
func (s *Set) Carried(ifindex int32) Carried {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.ports[ifindex]
	if ok && s.carrier != nil {
		p.carried.add(s.carrier.read(p.slot))
	}
	return p.carried
}

// AllCarried are those of all interfaces, the ones that have left included.
func (s *Set) AllCarried() (sum Carried) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum = s.carriedGone
	if s.carrier != nil {
		sum.add(s.carrier.gone)
	}
	for _, p := range s.ports {
		sum.add(p.carried)
		if s.carrier != nil {
			sum.add(s.carrier.read(p.slot))
		}
	}
	return sum
}

// read adds up what the CPUs counted for a slot.
func (c *Carrier) read(slot uint32) (sum Carried) {
	var each []bpfCarried
	if c.set.objs.ParpCarried.Lookup(slot, &each) != nil {
		return sum
	}
	for i := range each {
		sum.add(Carried{Packets: each[i].Packets, Bytes: each[i].Bytes, Small: each[i].Small, NoMem: each[i].Nomem, Answered: each[i].Answered, AnsweredND: each[i].AnsweredNd})
	}
	return sum
}
