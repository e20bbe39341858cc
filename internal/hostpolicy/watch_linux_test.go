package hostpolicy

import (
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// TestWatch: the kernel tells of each change, by its source, and of nothing when
// there is none.
func TestWatch(t *testing.T) {
	nstest.Enter(t)
	veths(t)
	w, err := Watch()
	if err != nil {
		nstest.Skip(t, "%v", err)
	}
	defer w.Close()
	if got := w.Told(); got != NFTables|TC|XFRM {
		t.Errorf("told of %b", got)
	}
	for _, c := range []struct {
		script string
		want   Sources
	}{
		{"nft add table ip t", NFTables},
		{"nft add chain ip t c { type filter hook forward priority 0 ; }", NFTables},
		{"nft add rule ip t c ip saddr 10.9.9.9 drop", NFTables},
		{"tc qdisc add dev veth0 clsact", TC},
		{"tc filter add dev veth0 ingress protocol ip u32 match ip dst 10.9.9.9/32 flowid 1:1", TC},
		{"ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir fwd action block", XFRM},
		{"ip link set other0 up", 0},
	} {
		w.Read(All)
		sh(t, c.script)
		wait := 10 * time.Second
		if c.want == 0 {
			wait = 0
		}
		if got, err := w.Wait(wait); err != nil || got != c.want {
			t.Errorf("%s: told of %b, %v, want %b", c.script, got, err, c.want)
		}
	}
	done := make(chan error, 1)
	go func() { _, err := w.Wait(time.Hour); done <- err }()
	w.Wake()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
