package metrics

import (
	"maps"
	"runtime"

	"proxyarpd/internal/status"
)

// mostInterfaces bounds the series: what is beyond counts together, as interface
// "others".
const (
	mostInterfaces = 1000
	others         = "others"
)

// family is a metric with its help and the names of its labels.
type family struct {
	name, help string
	labels     []string
}

func desc(name, help string, labels ...string) *family {
	return &family{"proxyarpd_" + name, help, labels}
}

var (
	buildInfo   = desc("build_info", "1, with the version, the Go version and the engine.", "version", "goversion", "engine", "claim")
	ready       = desc("ready", "1 if every workload interface that is up is served.")
	uptime      = desc("uptime_seconds", "Time since the start.")
	gateFound   = desc("gate_findings", "Rule sets of the host that forwarding passes by, or that packets are left to, by state.", "state")
	gateChanges = desc("gate_changes_total", "Rule sets of that kind that came or went.")
	gateLooks   = desc("gate_looks_total", "Times that the host's rules were looked at.")
	gateTook    = desc("gate_look_seconds_total", "Time that took.")
	configRead  = desc("config_last_reload_success_timestamp_seconds", "When the configuration that is in force was read.")
	configGood  = desc("config_last_reload_successful", "0 if the last reload was refused; proxyarpd status says why.")
	ports       = desc("interfaces", "Interfaces that are served, by role.", "role")
	left        = desc("interfaces_left", "Interfaces that one might expect to be served, and that are left to the kernel.")
	failing     = desc("interfaces_failed", "Served interfaces with an error; proxyarpd status names it.")

	arpRequests  = desc("arp_requests_total", "Well-formed ARP requests on an interface where they are answered.", "interface")
	arpReplies   = desc("arp_replies_total", "ARP requests that were answered on an interface.", "interface")
	arpUnrouted  = desc("arp_unrouted_total", "Answered requests whose sender is not routed to the interface.", "interface")
	foreign      = desc("foreign_answers_total", "ARP frames by which somebody else claims a gateway's address.", "interface")
	twice        = desc("address_twice_total", "ARP requests of an address that is routed to another workload.", "interface")
	uplinkClaims = desc("uplink_claims_total", "ARP frames by which a station of an uplink's network goes on claiming an address that is routed to a workload.", "interface")
	announcedNow = desc("announced_addresses", "Addresses that are answered for on an uplink, and announced.", "interface")
	announceWait = desc("announced_addresses_waiting", "Addresses of those that are not announced in full yet.", "interface")
	announceMove = desc("announced_addresses_total", "Addresses that came to be announced on an uplink, and that went, with their routes.", "interface", "change")
	announceSent = desc("announcements_total", "ARP announcements on an uplink.", "interface", "result")
	unannounced  = desc("unannounced_total", "Addresses for which there was no room: they are answered on uplinks, and not announced.")
	arpVerdicts  = desc("arp_interface_verdicts_total", "ARP frames on an interface where they are answered, by verdict (docs/VERDICTS.md).", "interface", "verdict")
	arpAll       = desc("arp_verdicts_total", "ARP frames of all interfaces, by verdict (docs/VERDICTS.md).", "verdict")
	ndRequests   = desc("nd_solicitations_total", "Well-formed neighbour solicitations on an interface where they are answered.", "interface")
	ndReplies    = desc("nd_advertisements_total", "Neighbour solicitations that were answered on an interface.", "interface")
	ndUnrouted   = desc("nd_unrouted_total", "Answered solicitations whose sender is not routed to the interface.", "interface")
	ndVerdicts   = desc("nd_interface_verdicts_total", "Frames of neighbour discovery on an interface where solicitations are answered, by verdict (docs/VERDICTS.md).", "interface", "verdict")
	ndAll        = desc("nd_verdicts_total", "Frames of neighbour discovery of all interfaces, by verdict (docs/VERDICTS.md).", "verdict")
	ndGroups     = desc("nd_groups", "Solicited-node groups that are to be joined, and those that are.", "state")
	ndSeconds    = desc("nd_answer_seconds", "Time from the kernel's receipt of a neighbour solicitation until the advertisement was handed to the interface.")
	ipv6On       = desc("interface_ipv6", "1 if IPv6 is forwarded for a served interface; proxyarpd status says why not.", "interface")
	arpCarried   = desc("arp_carried_total", "ARP requests that the tc program of the engine ebpf answered.")
	ndCarried    = desc("nd_carried_total", "Neighbour solicitations that the tc program of the engine ebpf answered.")
	arpSeconds   = desc("arp_answer_seconds", "Time from the kernel's receipt of an ARP request until the reply was handed to the interface.")

	packetsIn   = desc("forward_packets_in_total", "Packets that came to be forwarded.")
	packetsOut  = desc("forward_packets_out_total", "Packets that were sent out.")
	bytesOut    = desc("forward_bytes_out_total", "Bytes that were sent out, from the link-layer header.")
	carried     = desc("forward_carried_total", "Packets of those sent out that the tc program of the engine ebpf sent on.")
	egress      = desc("egress_drops_total", "Packets that the kernel dropped on interfaces that are served, behind --engine ebpf: by the device or its queueing discipline, those of other senders included.", "by")
	returned    = desc("forward_returned_total", "Packets that were taken in error and given back to the kernel.")
	verdicts    = desc("forward_verdicts_total", "Packets by verdict, drops apart (docs/VERDICTS.md).", "verdict")
	drops       = desc("forward_drops_total", "Dropped packets by reason (docs/VERDICTS.md).", "reason")
	ifVerdicts  = desc("interface_verdicts_total", "Packets that came in by an interface, by verdict, drops apart (docs/VERDICTS.md).", "interface", "verdict")
	ifDrops     = desc("interface_drops_total", "Dropped packets that came in by an interface, by reason (docs/VERDICTS.md).", "interface", "reason")
	received    = desc("interface_received_frames_total", "Frames of an interface that the ring took.", "interface")
	ifCarried   = desc("interface_carried_frames_total", "Frames of an interface that the tc program of the engine ebpf sent on.", "interface")
	policed     = desc("interface_policed_frames_total", "Frames of an interface that were refused for its share of the ring.", "interface")
	local       = desc("interface_local_frames_total", "Frames of an interface that were left to the kernel, for this host.", "interface")
	punted      = desc("interface_punted_frames_total", "Frames of an interface that were left to the kernel for another reason.", "interface")
	super       = desc("super_packets_total", "Super-packets that were made of datagrams of one flow.")
	datagrams   = desc("super_packet_datagrams_total", "Datagrams in super-packets.")
	rebuilt     = desc("rings_rebuilt_total", "Rings that the kernel had stopped, and that were replaced.")
	stalls      = desc("ring_stalls_total", "Times that nobody read the ring, and the kernel had the traffic where it forwards.")
	inRing      = desc("ring_frames", "Frames that are in the receive ring.")
	waiting     = desc("waiting_packets", "Packets that wait for a next hop, or for news of a route.")
	routes      = desc("routes", "Routes in the tables.")
	links       = desc("links", "Interfaces in the tables, served or not.")
	missed      = desc("destinations_untold", "Destinations that the ring's filter could not be told of.")
	events      = desc("netlink_events_total", "Events of the kernel that were followed.")
	overruns    = desc("netlink_overruns_total", "Times that events of the kernel were lost.")
	resyncs     = desc("netlink_resyncs_total", "Times that the kernel's state was read anew.")
	malformed   = desc("netlink_malformed_total", "Messages of the kernel that could not be read.")
	asked       = desc("neighbours_asked_total", "Next hops that the kernel was asked to resolve.")
	refused     = desc("neighbours_refused_total", "Requests to resolve a next hop that the kernel refused.")
	learned     = desc("neighbours_learned_total", "Neighbour entries made or changed because their address asked.")
	unlearned   = desc("neighbours_unlearned_total", "Askers that were left out: too many, too fast.")
	descriptors = desc("descriptors", "File descriptors, by what they are: in_use, needed at most, limit.", "what")
	clients     = desc("control_clients_rejected_total", "Clients of the control socket that were not served.", "why")
)

// gateFindings counts the rules of the host that packets are forwarded past, and those that they are left to the
// kernel for.
func gateFindings(g *status.Gate) (passed, spared int) {
	for _, f := range g.Findings {
		if f.Left {
			spared++
		} else {
			passed++
		}
	}
	return passed, spared
}

// collect writes all that a status says.
func collect(s *status.Status) []byte {
	o := newPage()
	o.gauge(buildInfo, 1, s.Version, runtime.Version(), s.Engine, s.Claim)
	o.gauge(ready, number(s.Ready))
	o.gauge(uptime, s.Uptime)
	passed, spared := gateFindings(&s.Gate)
	o.gauge(gateFound, float64(passed), "bypassed")
	o.gauge(gateFound, float64(spared), "left")
	o.counter(gateChanges, s.Gate.Changes)
	o.counter(gateLooks, s.Gate.Looks)
	o.seconds(gateTook, s.Gate.Took)
	o.gauge(configRead, float64(s.Config.Read.Unix()))
	o.gauge(configGood, number(s.Config.Refused == nil))
	o.gauge(ports, float64(len(s.Workloads)), "workload")
	o.gauge(ports, float64(len(s.Uplinks)), "uplink")
	o.gauge(left, float64(len(s.Left)))
	o.arp(s)
	o.nd(s)
	o.forward(&s.Forward)
	o.interfaces(s)
	k := &s.Kernel
	o.counter(events, k.Events)
	o.counter(overruns, k.Overruns)
	o.counter(resyncs, k.Resyncs)
	o.counter(malformed, k.Malformed)
	o.counter(asked, k.Resolved)
	o.counter(refused, k.Refused)
	o.counter(learned, k.Learned)
	o.counter(unlearned, k.Unlearned)
	o.gauge(descriptors, float64(s.Descriptors.InUse), "in_use")
	o.gauge(descriptors, float64(s.Descriptors.Needed), "needed")
	o.gauge(descriptors, float64(s.Descriptors.Limit), "limit")
	o.counter(clients, s.Control.Evicted, "evicted")
	o.counter(clients, s.Control.Refused, "refused")
	o.process(&s.Process)
	return o.bytes()
}

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func (o *page) arp(s *status.Status) {
	for v, n := range s.ARP.Verdicts {
		o.counter(arpAll, n, v)
	}
	o.counter(arpCarried, s.ARP.Carried)
	o.counter(unannounced, s.ARP.Unannounced)
	h := s.ARP.Times
	if h == nil {
		return
	}
	o.histogram(arpSeconds, h)
}

func (o *page) nd(s *status.Status) {
	if !s.IPv6 {
		return
	}
	for v, n := range s.ND.Verdicts {
		o.counter(ndAll, n, v)
	}
	o.counter(ndCarried, s.ND.Carried)
	o.gauge(ndGroups, float64(s.ND.Groups), "wanted")
	o.gauge(ndGroups, float64(s.ND.Joined), "joined")
	if h := s.ND.Times; h != nil {
		o.histogram(ndSeconds, h)
	}
}

// ipv6 shows what one interface has of it.
func (o *page) ipv6(i *status.Interface) {
	s := i.IPv6
	if s == nil {
		return
	}
	o.gauge(ipv6On, number(s.Forwards), i.Name)
	o.counter(ndRequests, s.Solicitations, i.Name)
	o.counter(ndReplies, s.Advertisements, i.Name)
	o.counter(ndUnrouted, s.Unrouted, i.Name)
	for v, n := range s.Verdicts {
		o.counter(ndVerdicts, n, i.Name, v)
	}
}

func (o *page) forward(f *status.Forward) {
	o.counter(packetsIn, f.PacketsIn)
	o.counter(packetsOut, f.PacketsOut)
	o.counter(bytesOut, f.BytesOut)
	o.counter(carried, f.Carried)
	if e := f.Egress; e != nil {
		o.counter(egress, e.Device, "device")
		o.counter(egress, e.Qdisc, "qdisc")
	}
	o.counter(returned, f.Returned)
	for v, n := range f.Verdicts {
		o.counter(verdicts, n, v)
	}
	for r, n := range f.Drops {
		o.counter(drops, n, r)
	}
	o.counter(super, f.Super.Packets)
	o.counter(datagrams, f.Super.Datagrams)
	o.counter(rebuilt, f.Rebuilt)
	o.counter(stalls, f.Stalls.Count)
	o.gauge(inRing, float64(f.InRing))
	o.gauge(waiting, float64(f.Waiting))
	o.gauge(routes, float64(f.Routes))
	o.gauge(links, float64(f.Links))
	o.gauge(missed, float64(f.Missed))
}

// interfaces shows what is known of each. An interface's name may be any bytes.
func (o *page) interfaces(s *status.Status) {
	bad := 0
	rest := status.Interface{Name: others, ARPVerdicts: map[string]uint64{}, Verdicts: unplaced(s, s.Forward.Verdicts, verdictsOf), Drops: unplaced(s, s.Forward.Drops, dropsOf)}
	show := func(i *status.Interface, workload bool) {
		if workload {
			o.counter(arpUnrouted, i.ARPUnrouted, i.Name)
			o.counter(twice, i.AddressTwice, i.Name)
		}
		if a := i.Announced; a != nil {
			o.gauge(announcedNow, float64(a.Held), i.Name)
			o.gauge(announceWait, float64(a.Waiting), i.Name)
			o.counter(announceMove, a.Taken, i.Name, "taken")
			o.counter(announceMove, a.Released, i.Name, "released")
			o.counter(announceSent, a.Sent, i.Name, "sent")
			o.counter(announceSent, a.Failed, i.Name, "failed")
			o.counter(uplinkClaims, i.UplinkClaims, i.Name)
		}
		if workload || i.Announced != nil {
			o.counter(arpRequests, i.ARPRequests, i.Name)
			o.counter(arpReplies, i.ARPReplies, i.Name)
			for v, n := range i.ARPVerdicts {
				o.counter(arpVerdicts, n, i.Name, v)
			}
		}
		o.ipv6(i)
		for v, n := range i.Verdicts {
			o.counter(ifVerdicts, n, i.Name, v)
		}
		for r, n := range i.Drops {
			o.counter(ifDrops, n, i.Name, r)
		}
		o.counter(foreign, i.ForeignAnswers, i.Name)
		o.counter(received, i.Received, i.Name)
		o.counter(ifCarried, i.Carried, i.Name)
		o.counter(policed, i.Policed, i.Name)
		o.counter(local, i.Local, i.Name)
		o.counter(punted, i.Punted, i.Name)
	}
	for n := range s.Workloads {
		i := &s.Workloads[n]
		bad += int(number(i.Error != ""))
		if n < mostInterfaces {
			show(i, true)
		} else {
			add(&rest, i)
		}
	}
	for n := range s.Uplinks {
		bad += int(number(s.Uplinks[n].Error != ""))
		if n < mostInterfaces {
			show(&s.Uplinks[n], false)
		} else {
			add(&rest, &s.Uplinks[n])
		}
	}
	if len(rest.Verdicts)+len(rest.Drops) > 0 || max(len(s.Workloads), len(s.Uplinks)) > mostInterfaces {
		show(&rest, len(s.Workloads) > mostInterfaces)
	}
	o.gauge(failing, float64(bad))
}

// add counts an interface with others.
func add(sum, i *status.Interface) {
	sum.ARPRequests += i.ARPRequests
	sum.ARPReplies += i.ARPReplies
	sum.ARPUnrouted += i.ARPUnrouted
	sum.ForeignAnswers += i.ForeignAnswers
	sum.AddressTwice += i.AddressTwice
	sum.UplinkClaims += i.UplinkClaims
	if a := i.Announced; a != nil {
		if sum.Announced == nil {
			sum.Announced = &status.Announced{}
		}
		sum.Announced.Held += a.Held
		sum.Announced.Waiting += a.Waiting
		sum.Announced.Taken += a.Taken
		sum.Announced.Released += a.Released
		sum.Announced.Sent += a.Sent
		sum.Announced.Failed += a.Failed
	}
	if v := i.IPv6; v != nil {
		if sum.IPv6 == nil {
			sum.IPv6 = &status.IPv6{Forwards: true, Verdicts: map[string]uint64{}}
		}
		sum.IPv6.Forwards = sum.IPv6.Forwards && v.Forwards
		sum.IPv6.Solicitations += v.Solicitations
		sum.IPv6.Advertisements += v.Advertisements
		sum.IPv6.Unrouted += v.Unrouted
		for verdict, n := range v.Verdicts {
			sum.IPv6.Verdicts[verdict] += n
		}
	}
	sum.Received += i.Received
	sum.Carried += i.Carried
	sum.Policed += i.Policed
	sum.Local += i.Local
	sum.Punted += i.Punted
	for v, n := range i.ARPVerdicts {
		sum.ARPVerdicts[v] += n
	}
	for v, n := range i.Verdicts {
		sum.Verdicts[v] += n
	}
	for r, n := range i.Drops {
		sum.Drops[r] += n
	}
}

func verdictsOf(i *status.Interface) map[string]uint64 { return i.Verdicts }
func dropsOf(i *status.Interface) map[string]uint64    { return i.Drops }

// unplaced are those of all packets that no interface of the status has counted:
// of interfaces that have gone, and what the ring lost.
func unplaced(s *status.Status, total map[string]uint64, of func(*status.Interface) map[string]uint64) map[string]uint64 {
	rest := map[string]uint64{}
	maps.Copy(rest, total)
	for _, all := range [][]status.Interface{s.Workloads, s.Uplinks} {
		for i := range all {
			for v, n := range of(&all[i]) {
				rest[v] -= min(n, rest[v])
			}
		}
	}
	maps.DeleteFunc(rest, func(_ string, n uint64) bool { return n == 0 })
	return rest
}
