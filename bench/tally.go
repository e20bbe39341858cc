package bench

// Tally is what became of a number of datagrams.
type Tally struct {
	Sent, Received uint64 // Received counts every arrival that was whole
	Lost           uint64 // never arrived, or not whole
	Duplicated     uint64 // arrivals of what had arrived already
	Reordered      uint64 // RFC 4737: came after one of its flow that was sent later
	Corrupt        uint64 // arrived, but not as anything that was sent, or with a wrong UDP checksum
}

// Plus adds two tallies.
func (t Tally) Plus(o Tally) Tally {
	t.Sent += o.Sent
	t.Received += o.Received
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.Reordered += o.Reordered
	t.Corrupt += o.Corrupt
	return t
}

// LossPercent is the RFC 2544 frame loss rate (26.3), in percent; 0 of nothing.
func (t Tally) LossPercent() float64 {
	if t.Sent == 0 {
		return 0
	}
	return 100 * float64(t.Lost) / float64(t.Sent)
}
