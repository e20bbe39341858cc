package daemon

import (
	"testing"
)

// TestDueSettings: uplinks are read each time, workload interfaces in turn.
func TestDueSettings(t *testing.T) {
	const workloads = 100
	ports := map[int]*port{}
	add := func(index int, r role) { ports[index] = &port{ref: ref{index, uint64(index)}, role: r} }
	for i := range workloads {
		add(10+3*i, roleWorkload)
	}
	add(2, roleUplink)
	add(200, roleUplink)

	read, last := map[int]int{}, 0
	const ticks = 4
	for range ticks {
		var due []ref
		due, last = dueSettings(ports, last, settingsShare)
		if len(due) != settingsShare+2 {
			t.Fatalf("%d interfaces at once", len(due))
		}
		for _, r := range due {
			if ports[r.index].ref != r {
				t.Fatalf("%v is another port's", r)
			}
			read[r.index]++
		}
	}
	for index, p := range ports {
		switch n := read[index]; {
		case p.role == roleUplink && n == ticks, p.role == roleWorkload && (n == 1 || n == 2):
		default:
			t.Errorf("%s %d: read %d times in %d ticks", p.role, index, n, ticks)
		}
	}
	if due, _ := dueSettings(ports, last, -1); len(due) != workloads+2 {
		t.Errorf("%d of all %d interfaces", len(due), workloads+2)
	}
	if due, next := dueSettings(nil, 7, settingsShare); len(due) != 0 || next != 7 {
		t.Errorf("of none: %v, %d", due, next)
	}
}
