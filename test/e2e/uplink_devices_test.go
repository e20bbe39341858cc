package e2e

import (
	"strings"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// uplinkDevice is a device over lan0 that is the uplink in its place, here and, for a
// VLAN, at the station.
type uplinkDevice struct {
	kind    string
	make    string   // the device, up0
	host    []string // what else it takes
	station string   // the station's device, "" for lan0
	ports   bool     // lan0 is a port of it, and no uplink any more
}

var uplinkDevices = []uplinkDevice{
	{kind: "bridge", make: "ip link add up0 " + snooping, ports: true, host: []string{"ip link set lan0 master up0",
		"ip link add vm0 type veth peer name vm1", "ip link set vm0 master up0 up", "ip link set vm1 up"}},
	{kind: "bond", make: "ip link add up0 type bond mode active-backup miimon 100", ports: true, host: []string{"ip link set lan0 down", "ip link set lan0 master up0"}},
	// It passes only multicast frames of groups that it has joined.
	{kind: "macvlan", make: "ip link add up0 link lan0 type macvlan mode bridge"},
	{kind: "vlan", make: "ip link add up0 link lan0 type vlan id 7", station: "lan0.7"},
}

// TestAnswerUplinkDevices: devices of other kinds are uplinks, and answer by both families
// with their own MAC, once; what they are made of is none, or answers nothing.
func TestAnswerUplinkDevices(t *testing.T) {
	t.Parallel()
	for _, c := range uplinkDevices {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := newSegment6(t)
			if out, code := try(t, s.Lab, "host0", c.make); code != 0 {
				nstest.Excused(t, nstest.NoSuchPart, "no device of type %s: %s", c.kind, out)
			}
			s.do("host0: ip addr flush dev lan0 scope global")
			for _, line := range c.host {
				s.do("host0: " + line)
			}
			s.do("host0: ip link set lan0 up", "host0: ip link set up0 up", "host0: ip addr add 192.0.2.1/24 dev up0", "host0: ip addr add 2001:db8:2::1/64 dev up0 nodad")
			station := lanUplink
			if c.station != "" {
				station = c.station
				s.do(s.station+": ip addr flush dev lan0 scope global", s.station+": ip link add link lan0 name lan0.7 type vlan id 7", s.station+": ip link set lan0.7 up",
					s.station+": ip addr add "+lanHostIP+"/24 dev lan0.7", s.station+": ip addr add "+lanHostIP6+"/64 dev lan0.7 nodad")
			}
			s.route(0, true)
			s.route6(0, true)
			s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR, "--answer-uplink", lanCIDR6))
			own := macOf(t, s.Lab, "host0", "up0")
			await(t, "it carries frames, and says so", func() bool { return s.of(0, "up0").Sent == 2*arpd.AnnounceNum })
			if c.kind == "bridge" {
				await(t, "the host has joined the group", func() bool {
					return strings.Contains(run(t, s.Lab, "host0", "bridge mdb show dev up0"), "port up0 grp ff02::1:ff00:50")
				})
			}
			if mac, replies, _ := arpingBy(t, s.Lab, s.station, station, "-b -c2 -w5 "+lanPodIP); mac != own || replies != 2 {
				t.Errorf("%s answers, %d replies; want %s, 2", mac, replies, own)
			}
			out, _ := try(t, s.Lab, s.station, "ndisc6 -q -m -w 500 -r 1 -s "+lanHostIP6+" "+lanPodIP6+" "+station)
			if got := strings.Fields(strings.ToLower(out)); len(got) != 1 || got[0] != own {
				t.Errorf("%q answer solicitations, want %s alone", got, own)
			}
			if c.station != "" { // of another network: those without tag
				if _, replies, _ := s.asks("-b -c1 -w1 " + lanPodIP); replies != 0 {
					t.Errorf("%d replies outside of the VLAN", replies)
				}
				if mac := s.solicits(lanPodIP6); mac != "" {
					t.Errorf("%s answers outside of the VLAN", mac)
				}
			}
			for _, node := range []string{"host0", s.station} {
				run(t, s.Lab, node, "ip neigh flush all")
			}
			wantTTL(t, s.Lab, s.station, lanPodIP, 63)
			wantTTL(t, s.Lab, s.station, lanPodIP6, 63)
			ping(t, s.Lab, s.pods[0].Node, lanHostIP6, "-I", lanPodIP6)
			st := statusOf(t, s.d[0])
			if st.port("up0") == nil || st.port("vm0") != nil || (st.port(lanUplink) == nil) != c.ports {
				t.Errorf("uplinks %+v", st.Uplinks)
			}
			if p := st.port(lanUplink); p != nil && p.ARPReplies != 0 {
				t.Errorf("%s answers, too: %+v", lanUplink, p)
			}
			if p := st.port("up0"); p != nil && p.took() == 0 {
				t.Errorf("nothing is forwarded for it: %+v", p)
			}
		})
	}
}
