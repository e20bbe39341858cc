package arpd

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/internal/wire"
)

// diary is an Agenda whose time is the test's.
type diary struct {
	*Agenda
	t    *testing.T
	now  int64
	sent []string
}

func newDiary(t *testing.T) *diary { return &diary{Agenda: NewAgenda(), t: t} }

func (d *diary) hold(index int, ip string) bool {
	return d.Hold(Announcement{Index: index, IP: netip.MustParseAddr(ip), MAC: wire.MAC{2, byte(index)}}, d.now)
}

// run lets time pass, and notes what is announced when.
func (d *diary) run(long time.Duration, sends func(Announcement) bool) {
	for end := d.now + int64(long); ; {
		a, wait, ok := d.Next(d.now)
		if ok {
			sent := sends == nil || sends(a)
			if d.Done(&a, sent, d.now); sent {
				d.sent = append(d.sent, fmt.Sprintf("%v %d %v", time.Duration(d.now), a.Index, a.IP))
			}
			continue
		}
		if wait == 0 {
			d.t.Fatal("nothing is due, and no time is to pass")
		}
		if wait < 0 || d.now+int64(wait) > end {
			d.now = end
			return
		}
		d.now += int64(wait)
	}
}

func (d *diary) want(what string, all ...string) {
	d.t.Helper()
	if fmt.Sprint(d.sent) != fmt.Sprint(all) {
		d.t.Errorf("%s: %q, want %q", what, d.sent, all)
	}
	d.sent = nil
}

// TestAnnounce: an address is announced twice, two seconds apart, and what is released
// is announced no more.
func TestAnnounce(t *testing.T) {
	d := newDiary(t)
	d.hold(3, "10.0.0.1")
	d.run(time.Second, nil)
	d.want("at once", "0s 3 10.0.0.1")
	d.hold(3, "10.0.0.1") // is held
	d.hold(4, "10.0.0.1") // another interface
	d.run(500*time.Millisecond, nil)
	d.want("another interface", "1s 4 10.0.0.1")
	d.Release(4, netip.MustParseAddr("10.0.0.1"))
	d.run(time.Minute, nil)
	d.want("again", "2s 3 10.0.0.1")
	if s := d.Stats(); s[3] != (AnnounceStats{Held: 1, Taken: 1, Sent: 2}) || s[4] != (AnnounceStats{Taken: 1, Released: 1, Sent: 1}) {
		t.Errorf("%+v", s)
	}
	d.now = 0
	d.Hold(Announcement{Index: 3, IP: netip.MustParseAddr("10.0.0.1"), MAC: wire.MAC{2, 9}}, d.now) // another MAC
	d.run(time.Minute, nil)
	d.want("the interface's MAC is another one", "0s 3 10.0.0.1", "2s 3 10.0.0.1")
	d.Forget(3)
	d.Release(3, netip.MustParseAddr("10.0.0.1"))
	if s := d.Stats(); len(s) != 1 || d.count != 0 {
		t.Errorf("%+v, %d", s, d.count)
	}
}

// TestAnnounceMany: a thousand at once are sent at the rate, those that nobody has
// heard of before the others, and no interface waits for another.
func TestAnnounceMany(t *testing.T) {
	d := newDiary(t)
	const many = 1000
	for i := range many {
		d.hold(3, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
	}
	d.hold(4, "10.0.0.1")
	d.run(0, nil)
	if len(d.sent) != AnnounceBurst+1 {
		t.Errorf("%d at once", len(d.sent))
	}
	last := time.Duration(many-AnnounceBurst) * time.Second / AnnounceRate
	d.run(last, nil)
	seen := map[string]int{}
	for _, s := range d.sent {
		var at, ip string
		var index int
		fmt.Sscan(s, &at, &index, &ip)
		seen[ip]++
	}
	if len(seen) != many+1 {
		t.Errorf("%d of %d addresses after %v", len(seen), many+1, last)
	}
	if s := d.Stats()[4]; s.Sent != AnnounceNum {
		t.Errorf("the other interface: %+v", s)
	}
	d.run(time.Minute, nil)
	if s := d.Stats()[3]; s.Sent != many*AnnounceNum || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAnnounceBounds: there is room for so many, a route that flaps takes none of it,
// and what can't be sent is tried again a few times.
func TestAnnounceBounds(t *testing.T) {
	d := newDiary(t)
	for range 3 * AnnounceMost {
		d.hold(3, "10.0.0.1")
		d.Release(3, netip.MustParseAddr("10.0.0.1"))
	}
	for i := range AnnounceMost {
		if !d.hold(3, fmt.Sprintf("10.1.%d.%d", i/250, i%250)) {
			t.Fatalf("no room for the %d-th", i)
		}
	}
	if d.hold(3, "10.0.0.2") || d.Refused != 1 {
		t.Errorf("room for one more; %d refused", d.Refused)
	}
	d = newDiary(t)
	d.hold(3, "10.0.0.1")
	failures := 2
	d.run(time.Minute, func(Announcement) bool { failures--; return failures < 0 })
	d.want("behind two failures", "200ms 3 10.0.0.1", "2.2s 3 10.0.0.1")
	d.hold(3, "10.0.0.2")
	d.run(time.Minute, func(Announcement) bool { return false })
	if s := d.Stats()[3]; s != (AnnounceStats{Held: 2, Taken: 2, Sent: 2, Failed: 2 + announceTries}) {
		t.Errorf("%+v", s)
	}
}

// TestClaimed: a claim is a conflict if its station makes it again behind the last
// announcement.
func TestClaimed(t *testing.T) {
	d := newDiary(t)
	ip, one, two := "10.0.0.1", wire.MAC{2, 1}, wire.MAC{2, 2}
	claimed := func(m wire.MAC) bool { return d.Claimed(Claim{3, netip.MustParseAddr(ip), m}, d.now) }
	if claimed(one) {
		t.Error("before the address is ours")
	}
	d.hold(3, ip)
	d.run(time.Second, nil)
	for range 2 {
		if claimed(one) {
			t.Error("while it is announced")
		}
	}
	d.run(time.Minute, nil)
	for range 2 {
		if claimed(one) {
			t.Error("once, twice within a moment: it was asked before")
		}
	}
	if d.Claimed(Claim{4, netip.MustParseAddr(ip), one}, d.now) {
		t.Error("on another interface")
	}
	d.now += int64(claimApart)
	if !claimed(one) || claimed(two) || claimed(one) {
		t.Error("it goes on; another one begins")
	}
	d.now += int64(claimApart)
	if !claimed(one) {
		t.Error("it goes on")
	}
	d.Release(3, netip.MustParseAddr(ip))
	if claimed(one) {
		t.Error("it is not ours any more")
	}
	if len(d.sent) != AnnounceNum {
		t.Errorf("it was defended: %q", d.sent)
	}
}

// TestAnnouncementFrame: it is what RFC 5227 section 2.3 says, as another parser reads it.
func TestAnnouncementFrame(t *testing.T) {
	a := Announcement{Index: 3, IP: remoteIP, MAC: otherMAC}
	b := make([]byte, ReplyLen)
	if n := a.Frame(b); n != ReplyLen {
		t.Fatalf("%d bytes", n)
	}
	eth, p := wire.Ethernet(b), wire.ARP(b[wire.EthernetLen:])
	if eth.Dst() != wire.Broadcast || eth.Src() != otherMAC || p.Op() != wire.ARPRequest || p.SenderIP() != remoteIP || p.TargetIP() != remoteIP ||
		p.SenderMAC() != otherMAC || p.TargetMAC() != (wire.MAC{}) {
		t.Errorf("%x", b)
	}
}
