package livecapture

import (
	"bytes"
	"sync"
	"testing"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// Workers of the datapath show packets at the same time: each has a ring of its
// own, so that all packets come, in the order of each worker, and what was lost
// is counted once.
func TestWorkers(t *testing.T) {
	const workers, packets = 4, 3000
	h := newHub()
	h.cfg.Workers = workers
	s := join(t, h, capture.Request{Interfaces: []string{"any"}, Snap: 64, Buffer: 1})
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			k := look(udp(200))
			k.Worker = worker
			for i := range packets {
				k.ID, k.Received = uint64(worker*packets+i+1), int64(i+1)
				if h.Wants(k) {
					h.Look(k)
				}
			}
		})
	}
	w := newStream(s, h, nil)
	w.buf = pcapfile.AppendSectionHeader(w.buf, &pcapfile.Section{})
	var written []byte
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for more := true; more; {
			more = w.fill()
			written, w.buf = append(written, w.buf...), w.buf[:0]
		}
	}
	w.statistics(0)
	written = append(written, w.buf...)
	r, err := pcapfile.NewReader(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	var last [workers]uint64
	got := uint64(0)
	for p := (pcapfile.Packet{}); r.Next(&p) == nil; got++ {
		worker := (p.PacketID - 1) / packets
		if p.PacketID <= last[worker] {
			t.Fatalf("worker %d: packet %d after %d", worker, p.PacketID, last[worker])
		}
		last[worker] = p.PacketID
	}
	st := r.Interfaces()[0].Statistics
	if got == 0 || st.UsrDeliv != got || st.UsrDeliv+st.OSDrop != workers*packets {
		t.Errorf("%d of %d packets, statistics %+v", got, workers*packets, st)
	}
}
