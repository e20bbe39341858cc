package doctor

import "fmt"

// checkInterfaces looks at the workloads' interfaces.
func checkInterfaces(f *facts) (found []Finding) {
	if len(f.workloads) == 0 {
		return []Finding{{"no-workloads", Info, "", fmt.Sprintf("no interface matches --workload %v", f.cfg.Workloads), "name the interfaces: --workload GLOB"}}
	}
	for _, l := range f.workloads {
		switch {
		case !l.Up():
			found = append(found, Finding{"interface-down", Info, l.Name, "is down", "ip link set " + l.Name + " up, when its workload is to be reached"})
		case !f.view.Used[int32(l.Index)]:
			found = append(found, Finding{"no-route", Warning, l.Name, "no route leads over it: nothing reaches the workload, and with --rp-filter 1 or 2 nothing from it is forwarded",
				"ip route add ADDRESS/32 dev " + l.Name + ", for IPv6 ip -6 route add ADDRESS/128 dev " + l.Name})
		}
		for _, u := range f.uplinks {
			if l.MTU > u.MTU && f.view.Used[int32(u.Index)] {
				found = append(found, Finding{"mtu", Warning, l.Name, fmt.Sprintf("its MTU, %d, is larger than that of the uplink %s, %d: long packets are dropped there, and each sender told by ICMP", l.MTU, u.Name, u.MTU),
					fmt.Sprintf("ip link set %s mtu %d, and the same for the pod's end", l.Name, u.MTU)})
			}
		}
	}
	return merged(found)
}

// deadRoute is a route whose only way is dead.
type deadRoute struct {
	to string // a prefix
	v  *family
}

// checkRoutes looks at routes that lead nowhere.
func checkRoutes(f *facts) (found []Finding) {
	for i, r := range f.dead {
		if i == 8 {
			found = append(found, Finding{"route-dead", Warning, "", fmt.Sprintf("%d more routes like these", len(f.dead)-i), r.v.ip + " route show"})
			break
		}
		found = append(found, Finding{"route-dead", Warning, r.to, "the route's interface is down or without carrier", "bring the interface up, or delete the route"})
	}
	return found
}
