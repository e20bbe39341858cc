package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// many is how many workloads there are at once.
const many = 1000

// manyRoutes adds or deletes the routes of many workloads.
func (s *segment) manyRoutes(t *testing.T, verb, via string, address func(i int) string) {
	t.Helper()
	var b strings.Builder
	for i := range many {
		fmt.Fprintf(&b, "route %s %s dev %s\n", verb, address(i), via)
	}
	file := filepath.Join(t.TempDir(), verb)
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, s.Lab, "host0", "ip -batch "+file)
}

// announcedAll waits until each of many addresses is announced, the first of which not
// before began, and checks that the rate was kept.
func announcedAll(t *testing.T, heard *station, began time.Time, of func(wire.Ethernet) (address string, ok bool)) {
	t.Helper()
	seen := map[string]int{}
	total := 0
	for len(seen) < many {
		f := heard.next(patience, func(f wire.Ethernet) bool { _, ok := of(f); return ok })
		if f == nil {
			t.Fatalf("%d of %d are announced", len(seen), many)
		}
		address, _ := of(f)
		seen[address]++
		total++
	}
	took := time.Since(began)
	t.Logf("%d addresses by %d announcements in %v", len(seen), total, took.Round(time.Millisecond))
	// What is received late may come in a bunch, but never earlier than it may be sent.
	if least := time.Duration(many-arpd.AnnounceBurst) * time.Second / arpd.AnnounceRate; took < least {
		t.Errorf("%d in %v, which is less than %v", total, took, least)
	}
}

// releasedAll waits for many routes' end: what is not announced yet is not any more. One
// that could not be sent was sent later; before are the drops of the CPUs' backlogs.
func (s *segment) releasedAll(t *testing.T, heard *station, before uint64, of func(wire.Ethernet) (string, bool)) {
	t.Helper()
	await(t, "all are released", func() bool { return s.of(0, lanUplink).Held == 0 })
	a := s.of(0, lanUplink)
	if a.Taken != many || a.Released != many || a.Waiting != 0 || a.Failed > nstest.BacklogDrops(t)-before {
		t.Errorf("%+v", a)
	}
	for heard.next(50*time.Millisecond, func(f wire.Ethernet) bool { _, ok := of(f); return ok }) != nil { // what is under way
	}
	if b := s.of(0, lanUplink); b.Sent != a.Sent {
		t.Errorf("%d announcements behind the last route's end", b.Sent-a.Sent)
	}
}

// TestAnswerUplinkMany: a thousand routes at once, half of them of IPv6, are announced no
// faster than the rate, each of them; those that go before are not.
func TestAnswerUplinkMany(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ALL)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", "10.77.0.0/16", "--answer-uplink", lanCIDR6))
	address := func(i int) string {
		if i%2 == 1 {
			return fmt.Sprintf("2001:db8:2::77:%x/128", i)
		}
		return fmt.Sprintf("10.77.%d.%d/32", i/250, 1+i%250)
	}
	of := func(f wire.Ethernet) (string, bool) {
		if isAnnouncement(f, "") {
			return wire.ARP(f.Payload()).SenderIP().String(), true
		}
		target, ok := advertised(f)
		return target.String(), ok
	}
	s.do("host0: ip route add default via " + lanHostIP) // they would be sought by lan0
	began, overflowed := time.Now(), nstest.BacklogDrops(t)
	s.manyRoutes(t, "add", s.pods[0].Iface, address)
	announcedAll(t, heard, began, of)
	s.manyRoutes(t, "del", s.pods[0].Iface, address)
	s.releasedAll(t, heard, overflowed, of)
}

// TestAnswerUplink6Many: of a thousand that are there when the daemon starts, behind a
// switch that snoops, all groups are joined, and each address is answered, while they are
// announced.
func TestAnswerUplink6Many(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.snoops(s.sw, "sw")
	heard, asks := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6), listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
	address := func(i int) string { return fmt.Sprintf("2001:db8:2::77:%x", 1+i) }
	route := func(i int) string { return address(i) + "/128" }
	of := func(f wire.Ethernet) (string, bool) {
		target, ok := advertised(f)
		return target.String(), ok
	}
	s.manyRoutes(t, "add", s.pods[0].Iface, route)
	began, overflowed := time.Now(), nstest.BacklogDrops(t)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR6))
	ready := time.Since(began)
	var st struct {
		ND struct {
			Groups int
			Joined int `json:"groups_joined"`
		}
		Process struct {
			Resident uint64 `json:"resident_bytes"`
		}
	}
	await(t, "all groups are joined", func() bool { s.d[0].StatusJSON(t, &st); return st.ND.Joined > many && st.ND.Joined == st.ND.Groups })
	joined := time.Since(began)
	known := 0 // to the switch
	count := func() int {
		known = strings.Count(run(t, s.Lab, s.sw, "bridge mdb show dev sw"), "port0 grp ff02::1:ff77:")
		return known
	}
	t.Cleanup(func() { t.Logf("the switch knows %d groups", known) })
	await(t, "the switch has been told", func() bool { return count() >= many }) // the host's own address may be in one
	s.d[0].StatusJSON(t, &st)
	t.Logf("ready after %v, groups joined after %v, known to the switch after %v; %.1f MB resident", ready.Round(time.Millisecond),
		joined.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), float64(st.Process.Resident)/(1<<20))
	answered := func(i int) bool {
		q := asks.whoHas6(address(i), lanHostIP6)
		for range 5 { // a CPU's backlog may lose some
			asks.send(q.frame())
			if asks.next(time.Second, q.isAnswer) != nil {
				return true
			}
		}
		return false
	}
	for i := range many {
		if !answered(i) {
			t.Fatalf("nobody answers for %s", address(i))
		}
	}
	if a, most := s.of(0, lanUplink), arpd.AnnounceBurst+int(time.Since(began)*arpd.AnnounceRate/time.Second); a.Held != many || a.Sent == 0 || a.Sent > uint64(most) {
		t.Errorf("%d announcements at most by now: %+v", most, a)
	}
	s.manyRoutes(t, "del", s.pods[0].Iface, route)
	s.releasedAll(t, heard, overflowed, of)
	await(t, "all groups are left", func() bool { s.d[0].StatusJSON(t, &st); return st.ND.Joined < many && st.ND.Joined == st.ND.Groups })
	await(t, "the switch has noticed", func() bool {
		return count() == 0
	})
}
