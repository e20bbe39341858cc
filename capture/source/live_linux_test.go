package source_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
	"proxyarpd/capture/source/sourcetest"
	"proxyarpd/internal/nstest"
)

// put sends frames from an interface.
func put(t *testing.T, ifindex int32, frames ...[]byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, f := range frames {
		if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: int(ifindex)}); err != nil {
			t.Fatal(err)
		}
	}
}

// A packet socket's packets, by the same interface.
func TestLive(t *testing.T) {
	nstest.Enter(t)
	from, to := nstest.Veth(t, "a", "b")
	for _, o := range []source.Options{{Interfaces: []string{"b"}}, {Interfaces: []string{"b", "lo*"}}, {Interfaces: []string{"?"}, Direction: pcapfile.Inbound}} {
		o.Filter, o.SnapLen = "udp port 2222 and not host 10.0.0.9", 30
		idle := 0
		var closes func() // called when the last read waits
		o.Idle = func() error {
			if idle++; closes != nil {
				time.AfterFunc(5*time.Millisecond, closes)
			}
			return nil
		}
		s, err := source.OpenLive(o)
		if err != nil {
			t.Fatal(err)
		}
		put(t, from, sourcetest.UDP(9), sourcetest.UDP(2), sourcetest.UDP(9), sourcetest.UDP(3))
		for n := range 2 {
			read := s.ReadPacketData
			if n == 0 {
				read = s.ZeroCopyReadPacketData
			}
			data, ci, err := read()
			a := source.AncillaryOf(ci)
			if err != nil || !bytes.Equal(data, sourcetest.UDP(byte(2 + n))[:30]) || ci.Length != 47 || ci.CaptureLength != 30 || ci.InterfaceIndex != int(to) {
				t.Fatalf("%v: %+v, %x", err, ci, data)
			}
			if a.Verdict != nil || a.Interface.Name != "b" || a.Flags.Direction() != pcapfile.Inbound || time.Since(ci.Timestamp) > time.Minute {
				t.Errorf("%+v", a)
			}
		}
		s.AskStatistics(func(st source.Statistics) {
			if st != (source.Statistics{Received: 2}) {
				t.Errorf("%+v", st)
			}
		})
		if s.LinkType() != pcapfile.LinkTypeEthernet || strings.Join(s.There(), " ") == "" {
			t.Errorf("%v, %v", s.LinkType(), s.There())
		}
		before := idle
		closes = func() { s.Close() }
		if _, _, err := s.ReadPacketData(); err != io.EOF || s.Err() != nil || idle == before {
			t.Errorf("%v, %v; idle %d times", err, s.Err(), idle-before)
		}
		if _, _, err := s.ReadPacketData(); err != io.EOF || s.Close() != nil || s.Statistics().Received != 2 {
			t.Errorf("after Close: %v", err)
		}
		s.Stop()
	}
}

// What has been read makes room in the ring.
func TestLiveRing(t *testing.T) {
	nstest.Enter(t)
	from, _ := nstest.Veth(t, "a", "b")
	s, err := source.OpenLive(source.Options{Interfaces: []string{"b"}, Filter: "udp port 2222", Buffer: 1}) // 64 frames
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for round := range 5 {
		for n := range 40 {
			put(t, from, sourcetest.UDP(byte(n)))
		}
		for n := range 40 {
			data, _, err := s.ZeroCopyReadPacketData()
			if err != nil || !bytes.Equal(data, sourcetest.UDP(byte(n))) {
				t.Fatalf("round %d, packet %d: %v, % x", round, n, err, data)
			}
		}
		if st := s.Statistics(); st.Dropped != 0 {
			t.Fatalf("round %d: %+v", round, st)
		}
	}
}

// Why nothing can be captured, and why a capture ends.
func TestLiveErrors(t *testing.T) {
	nstest.Enter(t)
	nstest.Veth(t, "a", "b")
	var bad capture.BadExpression
	if _, err := source.OpenLive(source.Options{Filter: "host ["}); !errors.As(err, &bad) {
		t.Error(err)
	}
	for _, o := range []source.Options{{Drops: true}, {Reasons: []string{"*"}}, {Interfaces: []string{"["}}, {Interfaces: []string{"none"}}, {Interfaces: []string{"lo"}}} {
		if s, err := source.OpenLive(o); err == nil { // lo is down
			t.Errorf("%+v is no error", o)
			s.Close()
		}
	}
	s, err := source.OpenLive(source.Options{Interfaces: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	link, err := netlink.LinkByName("a")
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = s.ReadPacketData()
	}
	if !errors.Is(err, source.ErrDisappeared) || err.Error() != "b: The interface disappeared" {
		t.Error(err)
	}
}

// What came before Stop is read, also what came when the ring had just been found
// empty.
func TestLiveStop(t *testing.T) {
	nstest.Enter(t)
	from, _ := nstest.Veth(t, "a", "b")
	var s *source.Live
	once := sync.OnceFunc(func() {
		put(t, from, sourcetest.UDP(1), sourcetest.UDP(2))
		s.Stop()
	})
	o := source.Options{Interfaces: []string{"b"}, Filter: "udp", Idle: func() error {
		once()
		return nil
	}}
	s, err := source.OpenLive(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := byte(1); n <= 2; n++ {
		if data, _, err := s.ReadPacketData(); err != nil || !bytes.Equal(data, sourcetest.UDP(n)) {
			t.Fatalf("%d: %v, %x", n, err, data)
		}
	}
	if _, _, err := s.ReadPacketData(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}
