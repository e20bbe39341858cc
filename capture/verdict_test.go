package capture

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var verdictCases = []struct {
	v      Verdict
	suffix string
}{
	{Verdict{Kind: Forward, ID: 8123, Out: "ens192", Via: netip.MustParseAddr("192.168.1.16"), Route: netip.MustParsePrefix("10.20.1.3/32"),
		Rule: "32766", Table: 254, Metric: 20, Neighbour: "REACHABLE", Src: "02:00:00:00:00:01", Dst: "02:00:00:00:00:02", TTL: "64>63", MTU: 1500, Took: 12345},
		" => forward ens192 via 192.168.1.16 route 10.20.1.3/32 #8123"},
	{Verdict{Kind: Answer, ID: 8124, IsAt: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}}, " => answer is-at ee:ee:ee:ee:ee:ee #8124"},
	{Verdict{Kind: Drop, Reason: "NEIGH_FAILED", ID: 8125, Out: "ens192", Via: netip.MustParseAddr("192.168.1.77"), ICMP: "3/1"},
		" => drop NEIGH_FAILED ens192 nh 192.168.1.77 icmp 3/1 #8125"},
	{Verdict{Kind: Ignore, Reason: "not-ip", ID: 1}, " => ignore not-ip #1"},
	{Verdict{Kind: Forward, ID: 2, In: "cali1"}, " => forward from cali1 #2"},
	{Verdict{Kind: Queue, Out: "a\nb c\x1b", ID: 3}, ` => queue a\x0ab\x20c\x1b #3`},
}

func TestSuffix(t *testing.T) {
	for _, c := range verdictCases {
		if got := string(c.v.AppendSuffix(nil)); got != c.suffix {
			t.Errorf("got %q, want %q", got, c.suffix)
		}
	}
}

func TestCommentRoundTrip(t *testing.T) {
	for _, c := range verdictCases[:5] {
		comment := string(c.v.AppendComment(nil))
		got, ok := ParseComment(comment)
		if !ok || !reflect.DeepEqual(got, c.v) {
			t.Errorf("%s: got %+v, want %+v", comment, got, c.v)
		}
	}
}

func TestDetail(t *testing.T) {
	want := "rule 32766, table main, metric 20, neigh REACHABLE, mac 02:00:00:00:00:01 > 02:00:00:00:00:02, ttl 64>63, mtu 1500, took 12.3 us"
	if got := string(verdictCases[0].v.AppendDetail(nil)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (&Verdict{Kind: Local, ID: 3, Took: time.Microsecond}).AppendDetail(nil); !strings.HasPrefix(string(got), "took") {
		t.Errorf("got %q", got)
	}
}

// FuzzComment: whatever a file says, what is printed is one line of ASCII.
func FuzzComment(f *testing.F) {
	for _, c := range verdictCases {
		f.Add(string(c.v.AppendComment(nil)))
	}
	f.Add("verdict=drop reason= id=99999999999999999999 took=x route=1/2 is-at=zz")
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ParseComment(s)
		if !ok {
			return
		}
		for _, c := range v.AppendDetail(v.AppendSuffix(nil)) {
			if c < ' ' || c >= 0x7f {
				t.Fatalf("%q becomes %q", s, v.AppendSuffix(nil))
			}
		}
		again, ok := ParseComment(string(v.AppendComment(nil)))
		if !ok || string(again.AppendSuffix(nil)) == "" {
			t.Fatalf("%q does not come back", s)
		}
	})
}
