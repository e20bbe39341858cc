package bench

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

func testBed(t *testing.T) *bed {
	t.Helper()
	before := runtime.GOMAXPROCS(runtime.NumCPU() + maxSenders() + 8)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 2, PodsPerHost: podsPerHost()})
	return &bed{Lab: l, dir: t.TempDir()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kernelForwards starts the kernel as forwarder and lets two pods reach each other.
func kernelForwards(t *testing.T, b *bed, from, to lab.Pod) *kernel {
	t.Helper()
	k := &kernel{}
	must(t, k.start(t.Context(), b, 0, 1))
	t.Cleanup(func() { must(t, k.stop()) })
	must(t, b.settle(t.Context(), k, [][2]lab.Pod{{from, to}}))
	return k
}

// numbered sends count numbered datagrams of flows flows at a rate, and tells what became of them.
func numbered(t *testing.T, b *bed, from, to lab.Pod, flows int, perSecond float64, count uint64) Tally {
	t.Helper()
	var sink *Sink
	must(t, b.Do(to.Node, func() (err error) { sink, err = OpenSink(to.Addr.Addr(), flows, count); return err }))
	var g generators
	must(t, openGenerators(b, load{senders: []lab.Pod{from}, to: []netip.Addr{to.Addr.Addr()}, flows: flows, sizes: []int{64}}, sink.Port(), &g))
	must(t, g.start(perSecond, count))
	g.all[0].Wait()
	if g.failed() != 0 {
		t.Errorf("%d frames refused", g.failed())
	}
	must(t, sink.Drain(g.sent()))
	tally, err := sink.Tally(g.sent())
	must(t, err)
	must(t, g.close())
	must(t, sink.Close())
	return tally
}

// The sink counts what the generator sends, to the datagram, on one host and across two.
func TestSinkCounts(t *testing.T) {
	b := testBed(t)
	for _, hosts := range [][]int{oneHost, twoHosts} {
		from, to := b.sender(0), b.receiver(hosts)
		k := kernelForwards(t, b, from, to)
		for _, flows := range []int{1, 16, 1000} {
			want := Tally{Sent: 5000, Received: 5000}
			if got := numbered(t, b, from, to, flows, 20000, 5000); got != want {
				t.Errorf("hosts %v, %d flows: %+v, want %+v", hosts, flows, got, want)
			}
		}
		must(t, k.stop())
	}
}

// A super-packet counts as the datagrams that it carries, whichever way it is cut.
func TestSinkCountsSegments(t *testing.T) {
	b := testBed(t)
	from, to := b.sender(0), b.receiver(twoHosts)
	kernelForwards(t, b, from, to)
	const segments, super = 40, 5
	var sink *Sink
	must(t, b.Do(to.Node, func() (err error) { sink, err = OpenSink(to.Addr.Addr(), 1, segments*super); return err }))
	defer sink.Close()
	must(t, b.Do(from.Node, func() error {
		fd, err := udpSocket(netip.AddrPortFrom(from.Addr.Addr(), 0))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, payloadLen); err != nil {
			return err
		}
		at := &unix.SockaddrInet4{Addr: to.Addr.Addr().As4(), Port: int(sink.Port())}
		for i := range super {
			var payload []byte
			for j := range segments {
				frame := make([]byte, payloadAt+payloadLen)
				stamp(frame, uint32(i*segments+j), uint64(monotonic()))
				payload = append(payload, frame[payloadAt:]...)
			}
			if err := unix.Sendto(fd, payload, 0, at); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, sink.Drain(segments*super))
	got, err := sink.Tally(segments * super)
	must(t, err)
	if want := (Tally{Sent: segments * super, Received: segments * super}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	times, err := sink.Latency()
	must(t, err)
	if p := times.Percentile(50); !(p > 0 && p < 60e3) {
		t.Errorf("half of them took %v µs or less", p)
	}
}

// A forwarder that loses, doubles, corrupts and swaps one of ten each has exactly
// that said of it.
func TestNumberedThroughFaultyForwarder(t *testing.T) {
	b := testBed(t)
	from, to := b.sender(0), b.receiver(oneHost)
	kernelForwards(t, b, from, to) // for the pods' neighbours
	must(t, b.SetSysctl("host0", "net.ipv4.ip_forward", "0"))
	in, out := hostSocket(t, b, from), hostSocket(t, b, to)
	receiver, err := b.end(to)
	must(t, err)
	var want Tally
	const count = 2100
	done := make(chan struct{})
	go func() {
		defer close(done)
		send := func(f []byte) { _, _ = unix.Write(out, f) }
		var held []byte
		for seen := 0; seen < count; {
			buf := make([]byte, 2048)
			n, _, err := unix.Recvfrom(in, buf, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				t.Errorf("after %d frames: %v", seen, err)
				return
			}
			f := buf[:n]
			if n != smallFrame-fcsLen {
				continue
			}
			copy(f, receiver.HardwareAddr)
			i := seen
			seen++
			switch {
			case i%10 == 3:
				want.Lost++
			case i%10 == 5:
				send(f)
				send(f)
				want.Duplicated++
			case i%10 == 6: // a bit has flipped
				f[payloadAt+payloadNumber+3] ^= 1
				send(f)
				want.Corrupt++
				want.Lost++
			case i%10 == 7:
				held = f
			case i%10 == 8: // overtakes the one before
				send(f)
				send(held)
				want.Reordered++
			default:
				send(f)
			}
		}
	}()
	got := numbered(t, b, from, to, 1, 5000, count)
	<-done
	want.Sent, want.Received = count, count-want.Lost+want.Duplicated
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// hostSocket is a packet socket on the host's end of a pod, for IPv4.
func hostSocket(t *testing.T, b *bed, p lab.Pod) (fd int) {
	t.Helper()
	must(t, b.Do("host0", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: p.Index})
	}))
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)) // for all, however busy the machine is
	return fd
}

func TestExchanges(t *testing.T) {
	b := testBed(t)
	from, to := b.sender(0), b.receiver(oneHost)
	kernelForwards(t, b, from, to)
	ping, end, err := b.asks(from, to, OpenEcho, openUDPAsker)
	must(t, err)
	defer end()
	tcp, endTCP, err := b.asks(from, to, OpenTCPEcho, openTCPAsker)
	must(t, err)
	defer endTCP()
	arp, err := b.asksNeighbour(from, to)
	must(t, err)
	defer arp.Close()
	for name, a := range map[string]*asker{"UDP": ping, "TCP": tcp, "ARP": arp} {
		x, err := a.run(Exchange{Count: 500, Timeout: time.Second, CPU: -1})
		must(t, err)
		if len(x.Took) != 500 || x.Lost != 0 {
			t.Errorf("%s: %d answered, %d lost, want all of 500", name, len(x.Took), x.Lost)
		}
	}
	// Nobody answers any more: all are lost, and none of the answers is invented.
	must(t, b.SetSysctl("host0", "net.ipv4.ip_forward", "0"))
	for name, a := range map[string]*asker{"UDP": ping, "ARP": arp} {
		x, err := a.run(Exchange{Count: 5, Timeout: 20 * time.Millisecond, CPU: -1})
		must(t, err)
		if len(x.Took) != 0 || x.Lost != 5 {
			t.Errorf("%s without a forwarder: %d answered, %d lost, want 5 lost", name, len(x.Took), x.Lost)
		}
	}
}

func TestDropperLetsNothingPass(t *testing.T) {
	b := testBed(t)
	from, to := b.sender(0), b.receiver(oneHost)
	k := kernelForwards(t, b, from, to)
	d := &dropper{}
	must(t, d.start(t.Context(), b, 0))
	want := Tally{Sent: 500, Lost: 500}
	if got := numbered(t, b, from, to, 1, 5000, 500); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	must(t, b.forget(from))
	if _, path, err := b.path(from, to.Addr.Addr()); err != nil || path.ToMAC == nil {
		t.Errorf("the path is forgotten with the pod's neighbours: %v, %v", path, err)
	}
	must(t, d.stop())
	must(t, b.reach(t.Context(), k, from, to))
	want = Tally{Sent: 500, Received: 500}
	if got := numbered(t, b, from, to, 1, 5000, 500); got != want {
		t.Errorf("after stop: got %+v, want %+v", got, want)
	}
}

// The kernel contestants leave the sysctls as they found them.
func TestKernelUndoes(t *testing.T) {
	b := testBed(t)
	keys := []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/proxy_arp", "net/ipv4/neigh/" + b.sender(0).Iface + "/proxy_delay"}
	look := func() (values [3]string) {
		for i, key := range keys {
			var err error
			values[i], err = b.Sysctl("host0", key)
			must(t, err)
		}
		return values
	}
	before, k := look(), &kernelRPS{}
	must(t, k.start(t.Context(), b, 0))
	if got := look(); got != [3]string{"1", "1", "0"} {
		t.Errorf("started: %v", got)
	}
	if got := rps(t, b); !strings.HasSuffix(got, allCPUs()) {
		t.Errorf("rps_cpus %s, want %s", got, allCPUs())
	}
	must(t, k.stop())
	if got := rps(t, b); strings.Trim(got, "0,") != "" {
		t.Errorf("stopped: rps_cpus %s", got)
	}
	if got := look(); got != before {
		t.Errorf("stopped: %v, want %v", got, before)
	}
}

// rps reads the mask of the first sender's host end.
func rps(t *testing.T, b *bed) (mask string) {
	t.Helper()
	must(t, b.Do("host0", func() error {
		if err := ownSysfs(); err != nil {
			return err
		}
		mask = firstLine("/sys/class/net/" + b.sender(0).Iface + "/queues/rx-0/rps_cpus")
		return nil
	}))
	return mask
}
