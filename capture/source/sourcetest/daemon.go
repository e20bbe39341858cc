// Package sourcetest pretends to be a daemon that captures, for tests of what
// reads from one.
package sourcetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// Time of the first packet of a Session; each packet is a millisecond later.
const Time = 1_700_000_000_000_000_000 // ns since 1970

// Session is a client's, as the daemon has it.
type Session struct {
	Request capture.Request
	conn    *net.UnixConn
	in      *bufio.Reader
	packets int
}

// Serve answers each client's request for a capture with reply, and then calls
// fn; the stream ends when fn returns. It returns the path of the socket.
func Serve(t testing.TB, reply capture.Reply, fn func(*Session)) (path string) {
	return Answer(t, func(s *Session) {
		s.say(struct {
			Capture capture.Reply `json:"capture"`
		}{reply})
		s.Write(pcapfile.AppendSectionHeader(nil, &pcapfile.Section{Application: "proxyarpd test"}))
		fn(s)
	})
}

// Refuse answers each client with an error, about its expression or not.
func Refuse(t testing.TB, reason string, expression bool) (path string) {
	return Answer(t, func(s *Session) {
		s.say(struct {
			Error         string `json:"error"`
			BadExpression bool   `json:"bad_expression"`
		}{reason, expression})
	})
}

// Answer calls fn with each client's request.
func Answer(t testing.TB, fn func(*Session)) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "parp") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := &Session{conn: c, in: bufio.NewReader(c)}
				line, err := s.in.ReadBytes('\n')
				var q struct {
					Op      string          `json:"op"`
					Capture capture.Request `json:"capture"`
				}
				if err != nil || json.Unmarshal(line, &q) != nil || q.Op != "capture" {
					return
				}
				s.Request = q.Capture
				fn(s)
			}()
		}
	}()
	return path
}

func (s *Session) say(v any) { _ = json.NewEncoder(s.conn).Encode(v) }

// Write sends bytes of the stream.
func (s *Session) Write(b []byte) { _, _ = s.conn.Write(b) }

// Interface describes an Ethernet interface, whose number is that of the call.
func (s *Session) Interface(name string, ifindex int32) {
	s.Write(pcapfile.AppendInterface(nil, &pcapfile.Interface{Name: name, Description: capture.IfindexText(ifindex),
		LinkType: pcapfile.LinkTypeEthernet, SnapLen: pcapfile.MaxSnapLen}))
}

// End describes the interface that says why the stream ends.
func (s *Session) End(reason string) {
	s.Write(pcapfile.AppendInterface(nil, &pcapfile.Interface{Description: capture.EndText(reason), LinkType: pcapfile.LinkTypeEthernet}))
}

// Packet sends a frame that came in on an interface, by its number. v is nil
// where nothing is known.
func (s *Session) Packet(id uint32, frame []byte, v *capture.Verdict) {
	p := pcapfile.Packet{Time: Time + int64(s.packets)*1e6, Data: frame, Len: uint32(len(frame)), Has: pcapfile.HasFlags,
		Flags: pcapfile.MakeFlags(pcapfile.Inbound, pcapfile.Unicast)}
	if v != nil {
		p.Comments = [][]byte{v.AppendComment(nil)}
	}
	s.packets++
	s.Write(pcapfile.AppendEnhancedPacket(nil, id, &p))
}

// Statistics sends an interface's counts; last says that they are the stream's
// end.
func (s *Session) Statistics(id uint32, selected, dropped, lost uint64, last bool) {
	st := pcapfile.Statistics{FilterAccept: selected, IfDrop: dropped, OSDrop: lost, UsrDeliv: selected - lost,
		Has: pcapfile.HasFilterAccept | pcapfile.HasIfDrop | pcapfile.HasOSDrop | pcapfile.HasUsrDeliv}
	if last {
		st.Has |= pcapfile.HasEndTime
	}
	s.Write(pcapfile.AppendStatistics(nil, id, &st))
}

// Told waits until the client says something: '?' asks for statistics, 0 is that
// it is enough, or that it has hung up.
func (s *Session) Told() byte {
	b, err := s.in.ReadByte()
	if err != nil {
		return 0
	}
	return b
}

// HungUp waits until the client has closed the connection, which it notices by
// what it sends, and reports whether that came about.
func (s *Session) HungUp() bool {
	empty := pcapfile.AppendSectionHeader(nil, &pcapfile.Section{})
	for range 1000 {
		if _, err := s.conn.Write(empty); err != nil {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// UDP is an Ethernet frame with a UDP datagram from 10.0.0.1.1111 to that host
// in 10.0.0.0/24, port 2222.
func UDP(host byte) []byte {
	return []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0x66, 0xcb - host, 10, 0, 0, 1, 10, 0, 0, host,
		0x04, 0x57, 0x08, 0xae, 0, 13, 0, 0, 'h', 'e', 'l', 'l', 'o'}
}

// File is the packets of a pcapng file, as `proxyarpd capture -w` writes them:
// fn sends them as to a client.
func File(t testing.TB, fn func(*Session)) []byte {
	t.Helper()
	path := Serve(t, capture.Reply{}, fn)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, `{"op":"capture"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	_, stream, whole := bytes.Cut(b, []byte("\n"))
	if !whole {
		t.Fatal(errors.New("no answer"))
	}
	return slices.Clone(stream)
}
