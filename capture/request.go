package capture

import "errors"

// ErrNoDaemon says that no daemon listens at a control socket.
var ErrNoDaemon = errors.New("no daemon listens")

// Request says what a capture session wants to see.
type Request struct {
	Interfaces []string `json:"interfaces"` // names, globs, or "any"
	Filter     string   `json:"filter,omitempty"`
	Snap       int      `json:"snap"`                // bytes of a frame
	Direction  string   `json:"direction,omitempty"` // "in", "out"; else both
	Drops      bool     `json:"drops,omitempty"`     // what was dropped alone
	Reasons    []string `json:"reasons,omitempty"`   // globs: these verdicts alone
	Buffer     int      `json:"buffer,omitempty"`    // bytes of packets that may wait for the reader
}

// Reply is what a session begins with; pcapng follows.
type Reply struct {
	Interfaces []string `json:"interfaces"` // those there are now that were asked for
	// Foreign are those of them that the daemon does not serve: their packets
	// have no verdict.
	Foreign []string `json:"foreign,omitempty"`
	// HostTraffic says that also what the daemon leaves to the kernel is shown.
	HostTraffic bool `json:"host_traffic"`
}

// Any is the name for all interfaces.
const Any = "any"
