package macs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// recordVersion is written into the file. A daemon that finds another one does not guess. Version 1 had no identities.
const recordVersion = 2

// recordSize bounds the file: some ten thousand interfaces, a hundred times what a node has.
const recordSize = 4 << 20

// The file's form.
type (
	record struct {
		Version int           `json:"version"`
		Netns   uint64        `json:"netns"`
		Entries []recordEntry `json:"entries"`
	}
	recordEntry struct {
		Ifindex    int               `json:"ifindex"`
		Name       string            `json:"name"`
		Original   hexMAC            `json:"original"`
		Set        hexMAC            `json:"set"`
		Previous   *hexMAC           `json:"previous,omitempty"`
		Inode      uint64            `json:"inode,omitempty"`
		Kind       string            `json:"kind,omitempty"`
		Permanent  *hexMAC           `json:"permanent,omitempty"`
		Peer       int               `json:"peer,omitempty"`
		Neighbours []recordNeighbour `json:"neighbours,omitempty"` // flushed by a change under way
	}
	recordNeighbour struct {
		IP       netip.Addr `json:"ip"`
		MAC      hexMAC     `json:"mac"`
		Flags    uint8      `json:"flags,omitempty"`
		Protocol uint8      `json:"protocol,omitempty"`
	}
	hexMAC MAC
)

func (m *hexMAC) UnmarshalText(b []byte) error {
	hw, err := net.ParseMAC(string(b))
	if err != nil || len(hw) != len(m) {
		return fmt.Errorf("%q is no Ethernet address", b)
	}
	copy(m[:], hw)
	return nil
}

// encodeRecord writes by hand what encoding/json would make of a record, since each change of one interface writes
// all of them and this is a tenth of the time; that decodeRecord reads it is fuzzed.
func encodeRecord(netns uint64, entries map[int]*entry) ([]byte, error) {
	b := make([]byte, 0, 64+160*len(entries))
	b = fmt.Appendf(b, `{"version":%d,"netns":%d,"entries":[`, recordVersion, netns)
	for i, index := range slices.Sorted(maps.Keys(entries)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		var err error
		if b, err = entries[index].appendJSON(b); err != nil {
			return nil, err
		}
	}
	b = append(b, "]}\n"...)
	if len(b) > recordSize {
		return nil, fmt.Errorf("more than %d bytes for %d interfaces", recordSize, len(entries))
	}
	return b, nil
}

func (e *entry) appendJSON(b []byte) ([]byte, error) {
	name, err := json.Marshal(e.name)
	if err != nil {
		return nil, err
	}
	kind, err := json.Marshal(e.id.Kind)
	if err != nil {
		return nil, err
	}
	b = strconv.AppendInt(append(b, `{"ifindex":`...), int64(e.ifindex), 10)
	b = append(append(b, `,"name":`...), name...)
	b = appendMAC(append(b, `,"original":`...), e.original)
	b = appendMAC(append(b, `,"set":`...), e.set)
	if e.previous != (MAC{}) {
		b = appendMAC(append(b, `,"previous":`...), e.previous)
	}
	if e.id.Inode != 0 {
		b = strconv.AppendUint(append(b, `,"inode":`...), e.id.Inode, 10)
	}
	if e.id.Kind != "" {
		b = append(append(b, `,"kind":`...), kind...)
	}
	if e.id.Permanent != (MAC{}) {
		b = appendMAC(append(b, `,"permanent":`...), e.id.Permanent)
	}
	if e.id.Peer != 0 {
		b = strconv.AppendInt(append(b, `,"peer":`...), int64(e.id.Peer), 10)
	}
	if len(e.pending) > 0 {
		b = append(b, `,"neighbours":[`...)
		for i, n := range e.pending {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(n.IP.AppendTo(append(b, `{"ip":"`...)), '"')
			b = appendMAC(append(b, `,"mac":`...), n.MAC)
			b = fmt.Appendf(b, `,"flags":%d,"protocol":%d}`, n.Flags, n.Protocol)
		}
		b = append(b, ']')
	}
	return append(b, '}'), nil
}

func appendMAC(b []byte, m MAC) []byte {
	const hex = "0123456789abcdef"
	for i, c := range m {
		sep := byte(':')
		if i == 0 {
			sep = '"'
		}
		b = append(b, sep, hex[c>>4], hex[c&15])
	}
	return append(b, '"')
}

// decodeRecord reads a record and demands that it makes sense: the daemon sets what it says.
func decodeRecord(b []byte, netns uint64) (map[int]*entry, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, err
	}
	if version.Version != recordVersion && version.Version != 1 {
		return nil, fmt.Errorf("version %d, this program knows %d", version.Version, recordVersion)
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the record")
	}
	if r.Netns != netns {
		return nil, fmt.Errorf("is of network namespace %d", r.Netns)
	}
	entries := make(map[int]*entry, len(r.Entries))
	for _, re := range r.Entries {
		e, err := re.entry()
		if err != nil {
			return nil, fmt.Errorf("interface %d (%q): %w", re.Ifindex, re.Name, err)
		}
		if entries[e.ifindex] != nil {
			return nil, fmt.Errorf("interface %d stands twice", e.ifindex)
		}
		entries[e.ifindex] = e
	}
	return entries, nil
}

func (re *recordEntry) entry() (*entry, error) {
	e := &entry{ifindex: re.Ifindex, name: re.Name, original: MAC(re.Original), set: MAC(re.Set),
		id: Identity{Inode: re.Inode, Kind: re.Kind, Peer: re.Peer}}
	if re.Permanent != nil {
		e.id.Permanent = MAC(*re.Permanent)
	}
	if re.Previous != nil {
		e.previous = MAC(*re.Previous)
	}
	for _, n := range re.Neighbours {
		e.pending = append(e.pending, Neighbour{e.ifindex, n.IP, MAC(n.MAC), n.Flags, n.Protocol})
	}
	return e, e.check()
}

// check tells whether the entry can be recorded and read again.
func (e *entry) check() error {
	if e.ifindex < 1 || e.ifindex > 1<<31-1 {
		return errors.New("no interface index")
	}
	// dev_valid_name in net/core/dev.c; a byte that is no UTF-8 takes four.
	if e.name == "" || len(e.name) > 4*15 || strings.ContainsAny(e.name, "/ \n\x00") || !utf8.ValidString(e.name) {
		return fmt.Errorf("%q cannot be recorded as an interface's name", e.name)
	}
	if !utf8.ValidString(e.id.Kind) {
		return fmt.Errorf("%q cannot be recorded as an interface's kind", e.id.Kind)
	}
	macs := []MAC{e.original, e.set}
	if e.previous != (MAC{}) {
		macs = append(macs, e.previous)
	}
	for _, m := range macs {
		if m == (MAC{}) || m[0]&1 != 0 { // is_valid_ether_addr
			return fmt.Errorf("%s cannot be an interface's MAC", text(m))
		}
	}
	for _, n := range e.pending {
		if !n.IP.IsValid() || n.IP.Zone() != "" {
			return errors.New("a neighbour without an address")
		}
	}
	return nil
}
