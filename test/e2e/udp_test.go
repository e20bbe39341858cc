package e2e

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestUDPSegmentation sends super-packets of UDP (UDP_SEGMENT), as QUIC does,
// over a wire that can carry them and over one that can't.
func TestUDPSegmentation(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ethtool", "ping")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	from, there, near := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0], pods(w.Lab, 0)[1]
	const size, per, packets = 1000, 50, 40
	test := func(what string, to lab.Pod) {
		t.Helper()
		r := labtest.Receive(t, w.Lab, to, per*packets)
		s := labtest.DialNumbered(t, w.Lab, from.Node, to, 0)
		labtest.Setsockopt(t, s, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		b := make([]byte, size*per)
		for i := range packets {
			for j := range per {
				binary.BigEndian.PutUint32(b[j*size:], uint32(i*per+j))
			}
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
			<-tick.C
		}
		s.SendFence()
		if lost, doubled := r.Result(); lost > 0 || doubled > 0 {
			t.Errorf("%s: of %d datagrams %d are lost and %d arrive more than once; drops %v, %v", what, per*packets, lost, doubled,
				statusOf(t, w.d[0]).Forward.Drops, statusOf(t, w.d[1]).Forward.Drops)
		}
	}
	wantTTL(t, w.Lab, from.Node, ip(near), 63) // so many don't wait for a MAC
	wantTTL(t, w.Lab, from.Node, ip(there), 62)
	test("one host", near)
	test("across", there)
	if s := statusOf(t, w.d[0]); s.port(from.Iface).Received > 4*packets {
		t.Errorf("%d frames for %d super-packets: they were cut before the program saw them", s.port(from.Iface).Received, 2*packets)
	}
	for _, host := range []string{"host0", "host1"} {
		run(t, w.Lab, host, "ethtool -K "+uplink+" tx off tso off gso off gro off sg off")
	}
	test("across a wire without offloads", there)
}
