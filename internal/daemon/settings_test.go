package daemon

import (
	"fmt"
	"testing"

	"proxyarpd/internal/netstate"
)

// TestDueSettings: uplinks are read each time, workload interfaces in turn.
func TestDueSettings(t *testing.T) {
	const workloads = 100
	d := &Daemon{links: map[int]*netstate.Link{}, ports: map[int]*port{}}
	add := func(index int, r role) {
		d.links[index] = &netstate.Link{Index: index, Name: fmt.Sprint(index)}
		d.ports[index] = &port{role: r}
	}
	for i := range workloads {
		add(10+3*i, roleWorkload)
	}
	add(2, roleUplink)
	add(200, roleUplink)
	d.ports[5] = &port{role: roleWorkload} // its link has gone

	read, last := map[int]int{}, 0
	const ticks = 4
	for range ticks {
		var due map[int]string
		due, last = d.dueSettings(last, settingsShare)
		if len(due) != settingsShare+2 {
			t.Fatalf("%d interfaces at once", len(due))
		}
		for index, name := range due {
			if name != fmt.Sprint(index) {
				t.Fatalf("index %d has name %s", index, name)
			}
			read[index]++
		}
	}
	for index, p := range d.ports {
		switch n := read[index]; {
		case d.links[index] == nil && n == 0, p.role == roleUplink && n == ticks, p.role == roleWorkload && (n == 1 || n == 2):
		default:
			t.Errorf("%s %d: read %d times in %d ticks", p.role, index, n, ticks)
		}
	}
	if due, _ := d.dueSettings(last, -1); len(due) != workloads+2 {
		t.Errorf("%d of all %d interfaces", len(due), workloads+2)
	}
	none := &Daemon{}
	if due, next := none.dueSettings(7, settingsShare); len(due) != 0 || next != 7 {
		t.Errorf("of none: %v, %d", due, next)
	}
}
