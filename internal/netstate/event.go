package netstate

// An Op says what happened to the object of an Event.
type Op uint8

const (
	Set    Op = iota + 1 // created or changed
	Delete               // gone; the object is as last known
	Synced               // all that the dump found has been reported
)

func (o Op) String() string {
	switch o {
	case Set:
		return "set"
	case Delete:
		return "delete"
	case Synced:
		return "synced"
	}
	return "unknown"
}

// An Event is one change. Exactly one pointer is set, or none if Op is Synced.
// What it points to belongs to the receiver, except the insides of Routes,
// which are shared and must not be modified.
//
// What has an order in the kernel - addresses of a link, routes to a
// destination, rules - comes as the whole new set in that order, so that a
// receiver keeps the set and has no order of its own. Addresses and Rules are
// told once a batch, where they changed first, as they are when the batch ends.
//
// A Link may be Set with another Name: it was renamed. A name may return with
// another Index: that is another link. A Link that is Deleted has lost its
// addresses and neighbours by events of their own.
type Event struct {
	Op        Op
	Link      *Link
	Addresses *AddressSet // always Set; empty if none is left
	Routes    *RouteSet   // with Delete, the set is empty
	Rules     *RuleSet    // always Set; empty if none is left
	Neighbour *Neighbour
	Netconf   *Netconf // always Set
}

// Stats counts since Open.
type Stats struct {
	Messages   uint64 // netlink messages read from the event socket
	Events     uint64 // events passed to apply
	Overruns   uint64 // times the socket lost messages (ENOBUFS)
	Resyncs    uint64 // times everything was read again because of that
	RouteDumps uint64 // times the routes alone were read again
	Malformed  uint64 // messages or dump entries that did not parse
	Ignored    uint64 // messages of other families and kinds
}
