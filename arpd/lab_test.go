package arpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// patience is how long something that must happen is waited for.
const patience = 10 * time.Second

// lab is a host and a pod namespace. Namespaces last as long as something is in
// them: nothing has to be removed.
type lab struct {
	t         testing.TB
	host, pod netns.NsHandle
	hostLinks *netlink.Handle
	podLinks  *netlink.Handle
}

// newLab leaves the test's goroutine in the host namespace, on a thread of its
// own that ends with the test.
func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t}
	for _, ns := range []*netns.NsHandle{&l.pod, &l.host} {
		nstest.Enter(t)
		h, err := netns.Get()
		l.must(err)
		*ns = h
		t.Cleanup(func() { _ = h.Close() })
	}
	for ns, links := range map[*netns.NsHandle]**netlink.Handle{&l.host: &l.hostLinks, &l.pod: &l.podLinks} {
		h, err := netlink.NewHandleAt(*ns)
		l.must(err)
		*links = h
		t.Cleanup(h.Close)
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

// station is the pod's end of a veth.
type station struct {
	*lab
	conn  *packet.Conn
	link  netlink.Link // the pod's end
	index int          // of the host's end
	host  netlink.Link
	mac   wire.MAC
}

// veth makes a pair name <-> eth-name, both up, the pod's end last: from then on
// it can send.
func (l *lab) veth(name string) *station {
	l.t.Helper()
	s := l.vethDown(name)
	s.up()
	return s
}

func (l *lab) vethDown(name string) *station {
	l.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	l.must(l.hostLinks.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth-" + name, PeerNamespace: netlink.NsFd(int(l.pod)),
	}))
	s := &station{lab: l}
	var err error
	s.host, err = l.hostLinks.LinkByName(name)
	l.must(err)
	s.index = s.host.Attrs().Index
	s.link, err = l.podLinks.LinkByName("eth-" + name)
	l.must(err)
	s.mac = wire.MAC(s.link.Attrs().HardwareAddr)
	l.inPod(func() {
		ifi := &net.Interface{Index: s.link.Attrs().Index, HardwareAddr: s.link.Attrs().HardwareAddr}
		s.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		l.must(err)
	})
	l.t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

func (s *station) up() {
	s.t.Helper()
	s.must(s.hostLinks.LinkSetUp(s.host))
	s.must(s.podLinks.LinkSetUp(s.link))
	_, _, _ = s.conn.ReadFrom(nil) // takes the ENETDOWN that bind met while the link was down
}

// who is a request that this station would send.
func (s *station) who(target string) request {
	q := who(netip.MustParseAddr(target))
	q.src, q.sha = s.mac, s.mac
	return q
}

func (s *station) policy() *Policy {
	p := testPolicy()
	p.Index, p.Name = s.index, s.host.Attrs().Name
	p.Own = wire.MAC(s.host.Attrs().HardwareAddr)
	return p
}

func (s *station) send(b []byte) error {
	_, err := s.conn.WriteTo(b, &packet.Addr{HardwareAddr: b[:6]})
	return err
}

// reply waits for the next ARP reply.
func (s *station) reply(within time.Duration) ([]byte, error) {
	b := make([]byte, 2048)
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for {
		n, _, err := s.conn.ReadFrom(b)
		if err != nil {
			return nil, err
		}
		if a := wire.ARP(b[min(n, wire.EthernetLen):n]); a.Valid() && a.Op() == wire.ARPReply {
			return b[:n], nil
		}
	}
}

// ask sends a request and demands its answer.
func (s *station) ask(q request) {
	s.t.Helper()
	s.must(s.send(q.bytes()))
	got, err := s.reply(patience)
	if err != nil {
		s.t.Fatalf("no answer on %s: %v", s.host.Attrs().Name, err)
	}
	checkReply(s.t.(*testing.T), got, q.bytes(), answerMAC)
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
func await(t testing.TB, r *Responder, what string, ok func(Stats) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok(r.Stats()) {
			return
		}
	}
	t.Fatalf("never: %s; counters %s", what, r.Stats().ByVerdict)
}

// String gives the counters that are not 0.
func (c Counts) String() string {
	s := ""
	for v, n := range c {
		if n != 0 {
			s += fmt.Sprintf("%v=%d ", Verdict(v), n)
		}
	}
	return s
}

// awaitSettled waits until the host's end has a queueing discipline that carries.
func (s *station) awaitSettled() {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		link, err := s.hostLinks.LinkByIndex(s.index)
		s.must(err)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
	s.t.Fatalf("%s never comes up", s.host.Attrs().Name)
}

// vlanDevice makes a VLAN device on the host's end. Not every kernel can.
func (l *lab) vlanDevice(s *station, name string, id int) bool {
	l.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, s.index
	err := l.hostLinks.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: id})
	if errors.Is(err, unix.EOPNOTSUPP) {
		l.t.Log("kernel without CONFIG_VLAN_8021Q: VLAN devices are not tested")
		return false
	}
	l.must(err)
	vlan, err := l.hostLinks.LinkByName(name)
	l.must(err)
	l.must(l.hostLinks.LinkSetUp(vlan))
	return true
}
