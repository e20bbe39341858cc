package control

import (
	"net"
	"slices"
	"time"
)

// idleClient is one that we wait for, and that does not wait for us.
type idleClient struct {
	conn  *net.UnixConn
	since time.Time
}

// setIdle says that the client is the one who is waited for.
func (s *Server) setIdle(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, idleClient{conn, time.Now()})
}

// setBusy says that the client waits for us, or is gone. It reports whether it
// was idle, and has not been evicted.
func (s *Server) setBusy(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.idle, func(o idleClient) bool { return o.conn == conn })
	if i < 0 {
		return false
	}
	s.idle = slices.Delete(s.idle, i, i+1)
	return true
}

// evict hangs up on the client that is idle longest, if one is for at least that long.
func (s *Server) evict(atLeast time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.idle, func(o idleClient) bool { return o.silent(atLeast) })
	if i < 0 {
		return false
	}
	_ = s.idle[i].conn.Close()
	s.idle = slices.Delete(s.idle, i, i+1)
	s.evicted.add("")
	return true
}
