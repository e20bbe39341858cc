package ndp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// patience is how long something that must happen is waited for.
const patience = 10 * time.Second

// lab is a host and a pod namespace. The test's goroutine stays in the host's, on a
// thread of its own.
type lab struct {
	t                   testing.TB
	host, pod           netns.NsHandle
	hostLinks, podLinks *netlink.Handle
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t}
	for _, ns := range []struct {
		at    *netns.NsHandle
		links **netlink.Handle
	}{{&l.pod, &l.podLinks}, {&l.host, &l.hostLinks}} {
		nstest.Enter(t)
		var err error
		*ns.at, err = netns.Get()
		l.must(err)
		*ns.links, err = netlink.NewHandleAt(*ns.at)
		l.must(err)
		t.Cleanup(func() { (*ns.links).Close(); _ = ns.at.Close() })
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// inPod runs f in the pod namespace; sockets that it makes stay there.
func (l *lab) inPod(f func()) {
	l.t.Helper()
	l.must(netns.Set(l.pod))
	defer func() { l.must(netns.Set(l.host)) }()
	f()
}

// sysctl sets one of net.ipv6, in the namespace where the test is.
func (l *lab) sysctl(name, value string) {
	l.t.Helper()
	l.must(os.WriteFile(filepath.Join("/proc/thread-self/root/proc/sys/net/ipv6", name), []byte(value), 0))
}

// station is the pod's end of a veth, whose kernel does not speak IPv6 unless a test has
// it do so.
type station struct {
	*lab
	conn       *packet.Conn
	link, host netlink.Link
	index      int // of the host's end
	mac        wire.MAC
}

// veth makes a pair name <-> eth-name, both up. The host's end has a MAC, and IPv6 only
// if it is to.
func (l *lab) veth(name string, mac wire.MAC, ipv6 bool) *station {
	l.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, net.HardwareAddr(mac[:])
	l.must(l.hostLinks.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth-" + name, PeerNamespace: netlink.NsFd(int(l.pod))}))
	s := &station{lab: l}
	var err error
	s.host, err = l.hostLinks.LinkByName(name)
	l.must(err)
	s.index = s.host.Attrs().Index
	s.link, err = l.podLinks.LinkByName("eth-" + name)
	l.must(err)
	s.mac = wire.MAC(s.link.Attrs().HardwareAddr)
	off := map[bool]string{true: "0", false: "1"}
	l.sysctl("conf/"+name+"/disable_ipv6", off[ipv6])
	l.sysctl("conf/"+name+"/dad_transmits", "0") // its addresses are its own at once
	l.inPod(func() {
		l.sysctl("conf/eth-"+name+"/disable_ipv6", "1")
		ifi := &net.Interface{Index: s.link.Attrs().Index, HardwareAddr: s.link.Attrs().HardwareAddr}
		s.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
		l.must(err)
	})
	l.t.Cleanup(func() { _ = s.conn.Close() })
	l.must(l.hostLinks.LinkSetUp(s.host))
	l.must(l.podLinks.LinkSetUp(s.link))
	_, _, _ = s.conn.ReadFrom(nil) // takes the ENETDOWN that bind met while the link was down
	// Asking for a link has the kernel give it its queue (linkwatch_sync_dev).
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if link, err := l.hostLinks.LinkByIndex(s.index); err != nil || time.Now().After(deadline) {
			l.t.Fatalf("%s does not come up: %v", name, err)
		} else if link.Attrs().OperState == netlink.OperUp {
			return s
		}
	}
}

// own is a solicitation that the station sends.
func (s *station) own(q solicit) solicit {
	if bytes.Equal(q.options, lladdr(1, podMAC)) {
		q.options = lladdr(1, s.mac)
	}
	if q.src == podMAC {
		q.src = s.mac
	}
	return q
}

func (s *station) policy() *Policy {
	p := testPolicy()
	p.Index, p.Name, p.Own, p.Settled = s.index, s.host.Attrs().Name, wire.MAC(s.host.Attrs().HardwareAddr), true
	return p
}

func (s *station) send(b []byte) {
	s.t.Helper()
	_, err := s.conn.WriteTo(b, &packet.Addr{HardwareAddr: b[:6]})
	s.must(err)
}

// advert waits for the next advertisement.
func (s *station) advert(within time.Duration) ([]byte, error) {
	b := make([]byte, 2048)
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for {
		n, _, err := s.conn.ReadFrom(b)
		if err != nil {
			return nil, err
		}
		if n >= AdvertisementLen-wire.NDOptLinkLayerLen && b[54] == wire.ICMPv6NeighAdvert {
			return b[:n], nil
		}
	}
}

// ask sends a solicitation and demands its answer.
func (s *station) ask(q solicit, mac wire.MAC, router bool) {
	s.t.Helper()
	q = s.own(q)
	s.send(q.bytes())
	got, err := s.advert(patience)
	if err != nil {
		s.t.Fatalf("no answer to %v: %v", q.target, err)
	}
	var read Solicitation
	if v := read.Read(q.bytes()); v != arpd.NotSpecified {
		s.t.Fatal(v)
	}
	checkReply(s.t.(*testing.T), got, &read, mac, router)
}

// start opens a Responder in the host namespace and runs it until the test ends.
func (l *lab) start(o Options) *Responder {
	l.t.Helper()
	r, err := Open(o)
	l.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, os.ErrClosed) {
				l.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			l.t.Error("Run does not end")
		}
		_ = r.Close()
	})
	return r
}

// await polls the counters, which change without telling, until ok holds.
func await(t testing.TB, r *Responder, what string, ok func(arpd.Stats) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok(r.Stats()) {
			return
		}
	}
	t.Fatalf("never: %s; counters %s", what, counted(r.Stats().ByVerdict))
}

// counted gives the counters that are not 0.
func counted(c arpd.Counts) (s string) {
	for v, n := range c {
		if n != 0 {
			s += fmt.Sprintf("%v=%d ", Verdict(v), n)
		}
	}
	return s
}

func counts(m map[Verdict]uint64) (c arpd.Counts) {
	for v, n := range m {
		c[v] = n
	}
	return c
}
