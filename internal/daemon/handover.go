package daemon

import (
	"encoding/json"
	"errors"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/livecapture"
)

// A daemon that runs hands over (yield.go) to its successor (takeover.go), which asks for it at
// the control socket. What they say to each other, the successor first:
//
//	takeover   who it is, and how it keeps its maps; the answer is a line of JSON
//	  offer    the configuration, and all descriptors; nothing has changed
//	freeze     the successor knows the kernel's state, and has its programs
//	  frozen   what changed since the offer; from now on the owner changes nothing
//	give       the successor's tables and ports are in place
//	  given    nobody reads rings and ARP socket any more; counters, what waits
//	  captured what captures have seen here is written; where their streams are
//	done       the successor reads, serves, and answers; this daemon ends
//
// Until done, this daemon goes on as if nothing had been when its successor dies or
// gives up: it says so, or the connection ends. A successor whose predecessor dies
// goes on with what it has. That is why who gives up says it before it hangs up.

// handoverProtocol is the version of what they say. Whoever changes the meaning of a
// message changes it.
const handoverProtocol = 2

const opTakeover = "takeover"

// Steps that the successor asks for.
const (
	stepFreeze = "freeze"
	stepGive   = "give"
	stepDone   = "done"
)

// takeoverRequest is the successor's first line.
type takeoverRequest struct {
	Op       string         `json:"op"`
	Protocol int            `json:"protocol"`
	Version  string         `json:"version"` // of the program
	Layout   string         `json:"layout"`  // of the programs' maps, claim.Layout
	Netns    instance.Netns `json:"netns"`
}

// takeoverReply is the answer to it; messages follow.
type takeoverReply struct {
	Error    string `json:"error,omitempty"`
	Ending   bool   `json:"ending,omitempty"` // there is nothing to take over any more
	Takeover bool   `json:"takeover,omitempty"`
}

// say is a message of the successor's.
type say struct {
	Step  string
	Error string // it gives up
}

// offer is what there is to take over. Its descriptors: the lock's file and socket, the
// ARP socket, that of neighbour discovery, the metrics socket, the relay, the rings, the maps, the claims; where a
// number says that there is none, none.
type offer struct {
	Error   string
	Version string
	Config  Config
	Lock    bool // there is a socket beside the file
	ND      bool
	Metrics bool
	Relay   bool
	Rings   int
	Manager managed // of services, to which this process is the main one
	// Programs are those of claim.Set; nil: there is no eBPF.
	Programs *claim.Handed
}

// frozen is the later state of the programs; its descriptors are those of the claims.
type frozen struct {
	Error    string
	Programs *claim.Handed
}

// given is what was counted, and what waits.
type given struct {
	Error     string
	Positions []int // in the rings
	Waiting   [][]forward.Waiting
	Held      []arpd.HeldFrame
	ARP       arpd.Counted
	HeldND    []arpd.HeldFrame
	ND        arpd.Counted
	Announced arpd.HandedAgenda
	Forward   countedForward
	Kernel    countedKernel
	Captures  livecapture.Suspended // the message's descriptors are its
}

// captured is where the streams of the captures are, once what this daemon has seen is
// written.
type captured struct {
	Error   string
	Streams []livecapture.StreamState
}

// countedForward are an engine's counters, by the names of verdicts.
type countedForward struct {
	In, Out, Bytes, Returned, Rebuilt uint64
	Super                             forward.Super
	Verdicts                          map[string]uint64
	Places                            []countedPlace
}

type countedPlace struct {
	Ifindex int32
	Verdict string
	N       uint64
}

// countedKernel is what the kernel was asked and told.
type countedKernel struct {
	Resolved, Refused, NoneQueued, Learned, Crowded, Unwritten uint64
}

func toCounted(s *engine.Stats) countedForward {
	c := countedForward{In: s.PacketsIn, Out: s.PacketsOut, Bytes: s.BytesOut, Returned: s.Returned, Rebuilt: s.Rebuilt, Super: s.Super, Verdicts: map[string]uint64{}}
	for v, n := range s.ByVerdict {
		if n > 0 {
			c.Verdicts[route.Verdict(v).String()] = n
		}
	}
	for p, n := range s.Places {
		c.Places = append(c.Places, countedPlace{p.Ifindex, p.Verdict.String(), n})
	}
	return c
}

// stats is the opposite of toCounted. A verdict of which this version knows nothing is
// left out.
func (c *countedForward) stats() (s engine.Stats) {
	s.PacketsIn, s.PacketsOut, s.BytesOut, s.Returned, s.Rebuilt, s.Super = c.In, c.Out, c.Bytes, c.Returned, c.Rebuilt, c.Super
	byName := map[string]route.Verdict{}
	for v := range route.NumVerdicts {
		byName[v.String()] = v
		s.ByVerdict[v] = c.Verdicts[v.String()]
	}
	s.Places = map[forward.Place]uint64{}
	for _, p := range c.Places {
		if v, ok := byName[p.Verdict]; ok {
			s.Places[forward.Place{Ifindex: p.Ifindex, Verdict: v}] += p.N
		}
	}
	return s
}

// Bounds of the exchange.
const (
	maxHandover  = 64 << 20         // bytes of a message: what waits is at most 8 MB
	busy         = 20 * time.Second // for a reload, or what follows a take-over that has failed
	busyTick     = 10 * time.Millisecond
	preparing    = time.Minute      // for the successor to get ready beside us
	standing     = 15 * time.Second // and to bring its tables in place while nothing changes here
	longTakeover = 30 * time.Second // then we say that it takes long
)

// takeoverLine reads the first line of the answer.
func takeoverLine(line []byte) error {
	var rep takeoverReply
	if err := json.Unmarshal(line, &rep); err != nil {
		return errors.New("the answer is none")
	}
	switch {
	case rep.Ending:
		return errPredecessorGone
	case rep.Error != "":
		return errors.New(rep.Error)
	case !rep.Takeover:
		return errors.New("the running daemon can't hand over")
	}
	return nil
}
