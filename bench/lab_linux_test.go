package bench

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

func testBed(t *testing.T) *bed {
	t.Helper()
	before := runtime.GOMAXPROCS(runtime.NumCPU() + 8)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 2, PodsPerHost: 3})
	return &bed{Lab: l, dir: t.TempDir()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kernelForwards starts the kernel as forwarder and lets two pods reach each other.
func kernelForwards(t *testing.T, b *bed, from, to lab.Pod) {
	t.Helper()
	k := &kernel{}
	must(t, k.start(t.Context(), b, 0, 1))
	t.Cleanup(func() { must(t, k.stop()) })
	must(t, b.settle(t.Context(), [2]lab.Pod{from, to}))
}

// The counter counts what the generator sends, to the datagram.
func TestDiscardCounts(t *testing.T) {
	b := testBed(t)
	from, to := b.pod(0, 0), b.pod(0, 2)
	kernelForwards(t, b, from, to)
	index, path, err := b.path(from, to)
	must(t, err)
	var d *Discard
	must(t, b.Do(to.Node, func() (err error) { d, err = OpenDiscard(to.Addr.Addr()); return err }))
	defer d.Close()
	for _, flows := range []int{1, 16, 1000} {
		frames, err := UDPFrames(path, flows, smallFrame, false)
		must(t, err)
		g, err := b.generator(from, index, frames, false)
		must(t, err)
		before, err := d.Count()
		must(t, err)
		const count = 5000
		must(t, g.Start(0, 20000, count))
		g.Wait()
		if g.Sent() != count || g.Failed() != 0 {
			t.Errorf("%d flows: %d sent, %d failed, want %d", flows, g.Sent(), g.Failed(), count)
		}
		must(t, g.Close())
		// The few that fit the socket's buffer count when they are read.
		for err = nil; err == nil; {
			_, _, err = unix.Recvfrom(d.fd, make([]byte, 2048), unix.MSG_DONTWAIT)
		}
		after, err := d.Count()
		must(t, err)
		if got := after - before; got != count {
			t.Errorf("%d flows: %d counted, want %d", flows, got, count)
		}
	}
}

func TestNumberedThroughKernel(t *testing.T) {
	b := testBed(t)
	from, to := b.pod(0, 0), b.pod(1, 2)
	kernelForwards(t, b, from, to)
	got, _, err := b.numbered(from, to, 16, 10000, 5000)
	must(t, err)
	if want := (Tally{Sent: 5000, Received: 5000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A forwarder that loses every 10th, doubles every 7th of the others and swaps
// the rest's neighbours now and then has exactly that said of it.
func TestNumberedThroughFaultyForwarder(t *testing.T) {
	b := testBed(t)
	from, to := b.pod(0, 0), b.pod(0, 2)
	kernelForwards(t, b, from, to) // for the pods' neighbours
	must(t, b.SetSysctl("host0", "net.ipv4.ip_forward", "0"))
	in, out := hostSocket(t, b, from), hostSocket(t, b, to)
	_, toMAC, err := b.end(to)
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
			if n != smallFrame {
				continue
			}
			copy(f, toMAC)
			i := seen
			seen++
			switch {
			case i%10 == 3:
				want.Lost++
			case i%10 == 5:
				send(f)
				send(f)
				want.Duplicated++
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
	got, _, err := b.numbered(from, to, 1, 5000, count)
	must(t, err)
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
	return fd
}

func TestExchanges(t *testing.T) {
	b := testBed(t)
	from, to := b.pod(0, 0), b.pod(0, 2)
	kernelForwards(t, b, from, to)
	ping, end, err := b.pingPong(from, to)
	must(t, err)
	defer end()
	arp, err := b.asksARP(from)
	must(t, err)
	defer arp.Close()
	for name, a := range map[string]*asker{"UDP": ping, "ARP": arp} {
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
	from, to := b.pod(0, 0), b.pod(0, 2)
	kernelForwards(t, b, from, to)
	d := &dropper{}
	must(t, d.start(t.Context(), b, 0))
	got, _, err := b.numbered(from, to, 1, 5000, 500)
	must(t, err)
	if want := (Tally{Sent: 500, Lost: 500}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	must(t, b.forget(from))
	if _, path, err := b.path(from, to); err != nil || path.ToMAC == nil {
		t.Errorf("the path is forgotten with the pod's neighbours: %v, %v", path, err)
	}
	must(t, d.stop())
	must(t, b.reach(t.Context(), from, to))
	got, _, err = b.numbered(from, to, 1, 5000, 500)
	must(t, err)
	if want := (Tally{Sent: 500, Received: 500}); got != want {
		t.Errorf("after stop: got %+v, want %+v", got, want)
	}
}

// The kernel contestant leaves the sysctls as it found them.
func TestKernelUndoes(t *testing.T) {
	b := testBed(t)
	keys := []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/proxy_arp", "net/ipv4/neigh/" + b.pod(0, 0).Iface + "/proxy_delay"}
	look := func() (values [3]string) {
		for i, key := range keys {
			var err error
			values[i], err = b.Sysctl("host0", key)
			must(t, err)
		}
		return values
	}
	before, k := look(), &kernel{}
	must(t, k.start(t.Context(), b, 0))
	if got := look(); got != [3]string{"1", "1", "0"} {
		t.Errorf("started: %v", got)
	}
	must(t, k.stop())
	if got := look(); got != before {
		t.Errorf("stopped: %v, want %v", got, before)
	}
}
