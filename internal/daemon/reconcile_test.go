package daemon

import (
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/forward"
)

// An ARP policy ends with its port: the set without it is published, and nothing
// that is published names it.
func TestPolicyEndsWithPort(t *testing.T) {
	d := &Daemon{builder: forward.NewBuilder(forward.Policy{}), dirty: newDirty(), ports: map[int]*port{
		7: {role: roleWorkload, policy: &arpd.Policy{Index: 7}},
		8: {role: roleWorkload, policy: &arpd.Policy{Index: 8}},
		9: {role: roleUplink},
	}}
	d.closePort(10) // one that there is not
	if d.dirty.publish {
		t.Error("published for nothing")
	}
	d.closePort(7)
	if !d.dirty.publish {
		t.Error("the set of policies is not published when a port goes")
	}
	if got := d.policies(); len(got) != 1 || got[8] == nil {
		t.Errorf("published: %v, want that of 8", got)
	}
}
