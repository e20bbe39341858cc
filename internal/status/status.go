// Package status has what a daemon says of itself: what `status -o json` prints,
// and what metrics and other commands are made of.
package status

import "time"

// Status is what `status -o json` prints.
type Status struct {
	Version   string      `json:"version"`
	PID       int         `json:"pid"`
	Engine    string      `json:"engine"`
	Workers   int         `json:"workers"` // threads that forward
	Claim     string      `json:"claim"`   // tcx, clsact, none
	Ready     bool        `json:"ready"`
	NotReady  string      `json:"not_ready,omitempty"` // why
	Uptime    float64     `json:"uptime_seconds"`
	Workloads []Interface `json:"workloads"`
	Uplinks   []Interface `json:"uplinks"`
	Left      []Left      `json:"left"`  // interfaces that are not served, though one might expect it
	Relay     string      `json:"relay"` // device for what no ring can take; empty: none
	IPv6      bool        `json:"ipv6"`  // is forwarded and answered, but where Interface.IPv6 says why not
	ARP       ARP         `json:"arp"`
	ND        ND          `json:"nd"`
	Forward   Forward     `json:"forward"`
	Kernel    Kernel      `json:"kernel"`

	Descriptors Descriptors `json:"descriptors"`
	Process     Process     `json:"process"`
	Privileges  Privileges  `json:"privileges"`
	Programs    []uint32    `json:"programs"` // IDs of its tc programs, those that a reload has exchanged included
	Control     Control     `json:"control"`
	Config      Config      `json:"config"`
	Gate        Gate        `json:"gate"`
	Conflicts   []Conflict  `json:"conflicts"` // the latest, newest first
}

// Privileges is what the daemon may do now: of what it was given, it keeps what it needs.
type Privileges struct {
	UID          int      `json:"uid"`          // effective
	Capabilities []string `json:"capabilities"` // in effect: cap_net_raw
	NoNewPrivs   bool     `json:"no_new_privs"`
	Seccomp      bool     `json:"seccomp"` // a filter of system calls is in force
}

// Conflict is somebody who claims an address that is not its own: that of a gateway
// (foreign-answer), one that is routed to another workload (address-twice), or, on an
// uplink, one that is routed to a workload (uplink-claim).
type Conflict struct {
	Kind      string    `json:"kind"`
	Interface string    `json:"interface"` // where it claims it
	Address   string    `json:"address"`
	MAC       string    `json:"mac"`
	Other     string    `json:"other,omitempty"`     // the interface that the address is routed to
	OtherMAC  string    `json:"other_mac,omitempty"` // of its neighbour there
	Count     uint64    `json:"count"`
	Last      time.Time `json:"last"`
}

// Gate is what there is now of the host's rules that forwarding passes by, or would.
type Gate struct {
	// State is clear; bypassed: packets are forwarded past Findings; left: those that
	// some of the Findings concern are left to the kernel, maybe those of IPv6 alone;
	// unknown; off: nothing is forwarded.
	State    string     `json:"state"`
	Findings []Bypassed `json:"findings"`
	Unknown  string     `json:"unknown,omitempty"` // why they may not be all
	Changes  uint64     `json:"changes"`           // findings that came or went
	Looks    uint64     `json:"looks"`             // at the host's rules
	Took     float64    `json:"looks_seconds"`     // by all of them
}

// Bypassed is one rule set.
type Bypassed struct {
	Kind      string    `json:"kind"`
	What      string    `json:"what"`
	Interface string    `json:"interface,omitempty"`
	Since     time.Time `json:"since"`
	IPv6      bool      `json:"ipv6"` // it concerns IPv6 alone
	Left      bool      `json:"left"` // what it concerns is left to the kernel
}

// Config is the configuration that is in force.
type Config struct {
	File    string              `json:"file,omitempty"` // that --config names
	Read    time.Time           `json:"read"`           // when
	Reloads int                 `json:"reloads"`        // since the start, that were accepted
	Refused *Refused            `json:"refused,omitempty"`
	Values  map[string][]string `json:"values"` // by key; what a flag says is in it, as all defaults are
}

// Refused is the last reload, if the daemon did not accept it.
type Refused struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// Control counts the clients of the control socket that were not served.
type Control struct {
	Evicted uint64 `json:"evicted"` // were idle, and others came
	Refused uint64 `json:"refused"` // may not ask, or all places were taken
}

// Interface is one port. Answers is the MAC that ARP replies give there, empty
// where there are none.
type Interface struct {
	Name        string `json:"name"`
	Index       int    `json:"index"`
	MAC         string `json:"mac"`
	Up          bool   `json:"up"`
	Answers     string `json:"answers,omitempty"`
	Forwards    bool   `json:"forwards"`
	Error       string `json:"error,omitempty"`
	ARPRequests uint64 `json:"arp_requests"`
	ARPReplies  uint64 `json:"arp_replies"`
	ARPUnrouted uint64 `json:"arp_unrouted"` // answered, though the sender is not routed to here
	// ForeignAnswers are ARP frames by which somebody else claims a gateway's address.
	ForeignAnswers uint64 `json:"foreign_answers"`
	// AddressTwice are requests of an address that is routed to another workload.
	AddressTwice uint64 `json:"address_twice"`
	// UplinkClaims are ARP frames by which a station goes on claiming an address that
	// is routed to a workload.
	UplinkClaims uint64            `json:"uplink_claims"`
	Announced    *Announced        `json:"announced,omitempty"`  // on uplinks with --answer-uplink
	Unlearned    uint64            `json:"neighbours_unlearned"` // who asked and was left out: too many, too fast
	ARPVerdicts  map[string]uint64 `json:"arp_verdicts,omitempty"`
	IPv6         *IPv6             `json:"ipv6,omitempty"`  // without IPv6 there is none
	Received     uint64            `json:"received"`        // frames given to the ring
	Carried      uint64            `json:"carried"`         // frames that the programs of --engine ebpf took: beside received, not of it
	Policed      uint64            `json:"policed"`         // frames refused: share of the ring in use
	Local        uint64            `json:"local"`           // left to the kernel: for the host
	Punted       uint64            `json:"punted"`          // left to the kernel for another reason
	Punts        map[string]uint64 `json:"punts,omitempty"` // those by reason
	Egress       *EgressDrops      `json:"egress_drops,omitempty"`
	// Verdicts and Drops are of the packets that came in by it, as in Forward.
	Verdicts map[string]uint64 `json:"verdicts,omitempty"`
	Drops    map[string]uint64 `json:"drops,omitempty"`
}

// IPv6 is what one interface has of it.
type IPv6 struct {
	Forwards       bool              `json:"forwards"`
	Why            string            `json:"why,omitempty"`  // it is left to the kernel there, or what it lacks
	Solicitations  uint64            `json:"solicitations"`  // of neighbours, well-formed, on an interface where they are answered
	Advertisements uint64            `json:"advertisements"` // of these, that were answered
	Unrouted       uint64            `json:"unrouted"`       // answered, though the sender is not routed to here
	Verdicts       map[string]uint64 `json:"verdicts,omitempty"`
}

// Announced are the addresses that are announced on an uplink.
type Announced struct {
	Held     int    `json:"held"`     // now
	Waiting  int    `json:"waiting"`  // of these, not announced in full yet
	Taken    uint64 `json:"taken"`    // times that one began to be held: its route came
	Released uint64 `json:"released"` // times that one ended: its route went
	Sent     uint64 `json:"sent"`     // announcements
	Failed   uint64 `json:"failed"`   // announcements that could not be sent
}

// EgressDrops are what was lost of packets that had been handed to the kernel, by
// its counters: those of other senders included. Only with --engine ebpf.
type EgressDrops struct {
	Device uint64 `json:"device"` // tx_dropped
	Qdisc  uint64 `json:"qdisc"`
}

// Left is an interface whose packets are left to the kernel.
type Left struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Why   string `json:"why"`
}

// ARP counts ARP frames by verdict.
type ARP struct {
	Verdicts map[string]uint64 `json:"verdicts"`
	Unrouted uint64            `json:"unrouted"` // as Interface.ARPUnrouted
	Carried  uint64            `json:"carried"`  // requests that the program of --engine ebpf answered
	// Unannounced are addresses of --answer-uplink for which there was no room: they
	// are answered, and not announced.
	Unannounced uint64 `json:"unannounced"`
	// Times says how long answers took, from the kernel's receipt of the request
	// until the reply was handed on, without those carried. Only with --metrics.
	Times *Histogram `json:"answer_seconds,omitempty"`
}

// ND counts frames of neighbour discovery by verdict.
type ND struct {
	Verdicts map[string]uint64 `json:"verdicts"`
	Unrouted uint64            `json:"unrouted"`
	Carried  uint64            `json:"carried"` // solicitations that the program of --engine ebpf answered
	// Groups are the solicited-node groups that are to be joined, Joined those that are.
	Groups int        `json:"groups"`
	Joined int        `json:"groups_joined"`
	Times  *Histogram `json:"answer_seconds,omitempty"` // as of ARP
}

// Histogram counts by classes. Counts has one more than Bounds, for all above.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // upper, each of its class
	Counts []uint64  `json:"counts"`
	Sum    float64   `json:"sum"`
}

// Forward counts packets of the datapath.
type Forward struct {
	PacketsIn  uint64            `json:"packets_in"`
	PacketsOut uint64            `json:"packets_out"`
	BytesOut   uint64            `json:"bytes_out"`
	ByWorker   []uint64          `json:"by_worker"` // packets_in of each worker, without those carried
	Verdicts   map[string]uint64 `json:"verdicts"`  // forward, queue, originate, local, punt, ignores
	Drops      map[string]uint64 `json:"drops"`     // by reason
	Routes     int               `json:"routes"`
	Links      int               `json:"links"`   // interfaces in the tables, served or not
	InRing     uint64            `json:"in_ring"` // frames that are in the ring
	Waiting    int64             `json:"waiting"` // packets that wait for a next hop, or for news of a route
	Carried    uint64            `json:"carried"` // of packets_out, sent on in the kernel by --engine ebpf
	Rebuilt    uint64            `json:"rings_rebuilt"`
	Nice       int               `json:"nice"` // nice value of the threads that forward
	Super      Super             `json:"super_packets"`
	Returned   uint64            `json:"returned"` // of packets_in, given back to the kernel
	Missed     int               `json:"missed"`   // destinations that the ring's filter could not be told of
	Stalls     Stalls            `json:"stalls"`
	Egress     *EgressDrops      `json:"egress_drops,omitempty"` // of all interfaces that are served, and have been
	// Commonest are the drops that were most frequent since the start, packets and
	// ARP frames, by reason and interface.
	Commonest []Drop `json:"commonest_drops"`
}

// Drop counts what was dropped for one reason of what came in by one interface.
type Drop struct {
	Reason    string `json:"reason"`
	Interface string `json:"interface,omitempty"` // empty: of several, or of none that is there
	ARP       bool   `json:"arp,omitempty"`       // ARP frames
	ND        bool   `json:"nd,omitempty"`        // frames of neighbour discovery
	Count     uint64 `json:"count"`
}

// Stalls says how often the datapath did not read its ring. Where the kernel
// forwards it had the traffic meanwhile (verdict reader-stalled), and of what the
// ring held some was dropped (PARP_STALLED): no more was lost.
type Stalls struct {
	Count uint64  `json:"count"`
	Now   bool    `json:"now"`           // the kernel has it
	Ago   float64 `json:"ago_seconds"`   // since the last began; 0: there was none
	Lasts float64 `json:"lasts_seconds"` // for how long it had it then, by now
}

// Super counts super-packets that were made of datagrams of one flow.
type Super struct {
	Packets   uint64            `json:"packets"`
	Datagrams uint64            `json:"datagrams"` // in them; each also counts in packets_out
	Lengths   map[string]uint64 `json:"lengths"`   // packets by how many datagrams: "2", "4", "8", ... is the least of each class
}

// Kernel is how well the kernel's state is followed.
type Kernel struct {
	Events     uint64 `json:"events"`
	Overruns   uint64 `json:"overruns"`
	Resyncs    uint64 `json:"resyncs"`
	Malformed  uint64 `json:"malformed"`
	Resolved   uint64 `json:"neighbours_asked"`
	Refused    uint64 `json:"neighbours_refused"`
	NoneQueued uint64 `json:"neighbours_overflow"`
	Learned    uint64 `json:"neighbours_learned"`   // entries made or changed because their address asked
	Unlearned  uint64 `json:"neighbours_unlearned"` // askers left out: too many, too fast
	Unwritten  uint64 `json:"neighbours_unwritten"` // askers whose entry the kernel did not take
	PutBack    uint64 `json:"neighbours_put_back"`  // entries that others had made theirs at the same time
}

// Process is what the daemon itself takes.
type Process struct {
	Goroutines uint64 `json:"goroutines"`
	Resident   uint64 `json:"resident_bytes"`
	Heap       uint64 `json:"heap_bytes"`   // of objects, those too that nothing refers to and no collection has found yet
	Live       uint64 `json:"live_bytes"`   // of those, what the last collection found in use
	Unused     uint64 `json:"unused_bytes"` // what the heap holds beyond them
}

// Descriptors is how many files the process may have open: what it has, what it
// may have, and what it needs at most with the interfaces that there are.
type Descriptors struct {
	InUse  int `json:"in_use"`
	Limit  int `json:"limit"`
	Needed int `json:"needed"`
}
