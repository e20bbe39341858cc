package afpacket

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
)

// Super-packets for which the socket's queue had no room are counted, and leave
// the order of the others alone.
func TestNoRoomForCopies(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	p := open(t, Config{Ring: pktring.Config{Queue: 100 << 10}, Guarded: true})
	const rounds = 3 * copyBuffers
	var want []uint32
	for i := range uint32(rounds) {
		p.Send([]forward.Out{{Buf: frame(2*i, 60000), Ifindex: from}, {Buf: frame(2*i+1, 60), Ifindex: from}})
		want = append(want, 2*i, 2*i+1)
	}
	var b forward.Batch
	whole, lost := 0, 0
	for len(want) > 0 {
		recv(t, p, &b)
		for i := range b.Frames[:b.N] {
			f := &b.Frames[i]
			if number(f.Buf) != want[0] { // of a lost one the beginning is there
				t.Fatalf("frame %d came, want %d", number(f.Buf), want[0])
			}
			switch {
			case want[0]%2 == 1:
				if f.Lost != route.NotSpecified {
					t.Errorf("a small frame: %v", f.Lost)
				}
			case f.Lost == route.DropNoMem:
				lost++
			case f.Lost == route.NotSpecified && len(f.Buf) == forward.VnetLen+14+60000:
				whole++
			default:
				t.Errorf("a super-packet: %v, %d bytes", f.Lost, len(f.Buf))
			}
			want = want[1:]
		}
		p.Release(&b)
	}
	if whole == 0 || lost == 0 || whole+lost != rounds {
		t.Errorf("%d whole, %d lost, of %d", whole, lost, rounds)
	}
	// And with the queue empty again, all is well.
	p.Send([]forward.Out{{Buf: frame(9, 60000), Ifindex: from}})
	recv(t, p, &b)
	if f := b.Frames[0]; f.Lost != route.NotSpecified || len(f.Buf) != forward.VnetLen+14+60000 {
		t.Errorf("%v, %d bytes", f.Lost, len(f.Buf))
	}
	p.Release(&b)
}

// Without eBPF nothing keeps a packet from the ring that stops it for good
// (UFO here, from a device that a guest might write to): the ring is replaced,
// and all goes on but for what came meanwhile.
func TestStoppedRingIsReplaced(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	tapped, write := nstest.Tap(t)
	w := &window{}
	p := open(t, Config{Window: w, Ring: pktring.Config{Filter: pktring.AttachIPv4}})
	const udp = 3 // VIRTIO_NET_HDR_GSO_UDP
	ufo := frame(0, 4000)
	ufo[1] = udp
	ufo[forward.VnetLen+14+9] = unix.IPPROTO_UDP
	ufo[8] = 6                                   // where UDP has its checksum
	to := func(ifindex int32, b []byte) []byte { // the filter wants the device's own MAC, or another's
		copy(b[forward.VnetLen:], []byte{2, 0, 0, 0, 0, byte(ifindex)})
		return b
	}
	var b forward.Batch
	ping := func() bool {
		p.Send([]forward.Out{{Buf: to(from, frame(7, 60)), Ifindex: from}})
		if err := p.Recv(&b, 0); err != nil {
			t.Fatal(err)
		}
		defer p.Release(&b)
		return b.N == 1
	}
	if !ping() {
		t.Fatal("nothing comes")
	}
	for n := range uint64(3) {
		write(to(tapped, ufo))
		if ping() {
			nstest.Excused(t, nstest.KernelCured, "its rings do not stop")
		}
		nstest.NoDescriptors(t, 0, func() { // it has to wait for one
			for range 3 {
				if err := p.Recv(&b, lookAfter); err != nil || b.N != 0 || p.Rebuilt() != n {
					t.Fatalf("without descriptors: %v, %d frames, replaced %d times of %d", err, b.N, p.Rebuilt(), n)
				}
				p.Release(&b)
			}
		})
		// Some traffic goes on, and nobody wakes the loop.
		began, stop := time.Now(), traffic(t, to(from, frame(8, 60)), from)
		for p.Rebuilt() == n {
			if err := p.Recv(&b, -1); err != nil || b.N != 0 && p.Rebuilt() == n {
				t.Fatalf("%v, %d frames", err, b.N)
			}
			if p.Release(&b); time.Since(began) > patience {
				t.Fatal("the ring is not replaced")
			}
		}
		stop()
		for { // what has come to the new ring
			if err := p.Recv(&b, 0); err != nil {
				t.Fatal(err)
			}
			if b.N == 0 {
				break
			}
			p.Release(&b)
		}
		t.Logf("replaced after %v", time.Since(began))
		for range 3 {
			if !ping() {
				t.Fatal("the new ring takes nothing")
			}
		}
	}
	if w.reset != 3 {
		t.Errorf("the window was told %d times of 3", w.reset)
	}
	if p.Drops() < 6 {
		t.Errorf("%d drops: those of the stopped rings are missing", p.Drops())
	}
}

// An idle ring, and one that was full, are not taken for stopped.
func TestRingThatOnlyWasFull(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "a"+"p")
	p := open(t, Config{Ring: pktring.Config{Slots: 64}})
	var b forward.Batch
	for round := range 5 {
		for i := range uint32(200) {
			p.Send([]forward.Out{{Buf: frame(i, 60), Ifindex: from}})
		}
		got := 0
		for {
			if err := p.Recv(&b, lookAfter); err != nil {
				t.Fatal(err)
			}
			if b.N == 0 {
				break
			}
			got += b.N
			p.Release(&b)
		}
		if got != 64 || p.Drops() != uint64(round+1)*136 || p.Rebuilt() != 0 {
			t.Errorf("round %d: %d frames, %d drops, %d rebuilt", round, got, p.Drops(), p.Rebuilt())
		}
	}
}

// traffic sends a frame every few milliseconds until stop has returned.
func traffic(t *testing.T, f []byte, ifindex int32) (stop func()) {
	t.Helper()
	s, err := pktring.OpenSender(true)
	if err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				s.Add(f, ifindex, unix.ETH_P_IP)
				s.Flush()
			}
		}
	}()
	return func() { close(end); <-ended; s.Close() }
}
