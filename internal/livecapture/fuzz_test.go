package livecapture

import (
	"encoding/json"
	"testing"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// FuzzRequest: whatever a client asks for, it gets an error, or a session that
// is within its bounds and looks at packets.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"interfaces":["any"],"filter":"tcp port 80 or vlan","snap":96,"buffer":200000,"reasons":["NEIGH_*"],"drops":true}`,
		`{"interfaces":["cali*","[a-c]?"],"direction":"out","snap":-1,"buffer":-9223372036854775808}`,
		`{"interfaces":["\\"],"filter":"protochain 6"}`, `{"interfaces":[""]}`, `{}`, `[`} {
		f.Add([]byte(s))
	}
	k := look(udp(64))
	f.Fuzz(func(t *testing.T, line []byte) {
		var req capture.Request
		if len(line) > 64<<10 || json.Unmarshal(line, &req) != nil {
			return
		}
		req.Buffer = min(req.Buffer, captureMinBuffer) // memory is slow
		s, err := newSession(req, 1)
		if err != nil {
			return
		}
		if s.req.Snap <= 0 || s.req.Snap > pcapfile.MaxSnapLen || s.req.Buffer < captureMinBuffer || s.req.Buffer > captureMaxBuffer {
			t.Errorf("%+v", s.req)
		}
		h := newHub()
		if _, err := h.join(s); err != nil {
			if h.part(s) != 0 {
				t.Error("one that is refused stays")
			}
			return // no such interface, say
		}
		if h.Wants(k) {
			h.Look(k)
		}
		w := newStream(s, h, nil)
		w.fill()
		if h.part(s) != 0 {
			t.Error("it is still there")
		}
	})
}

// TestRequestBounds: no request gets more memory than there is for it.
func TestRequestBounds(t *testing.T) {
	for asked, want := range map[int]int{0: captureBuffer, -5: captureMinBuffer, 1: captureMinBuffer, 1 << 62: captureMaxBuffer, 3 << 20: 3 << 20} {
		s, err := newSession(capture.Request{Interfaces: []string{"any"}, Buffer: asked}, 1)
		if err != nil || s.req.Buffer != want || s.req.Snap != pcapfile.MaxSnapLen {
			t.Errorf("%d: %+v, %v", asked, s.req, err)
		}
	}
}
