package arpd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"proxyarpd/internal/wire"
)

// TestAgendaHandedOver: what another process has announced is not announced again, what
// was still to be is when it was, and counters go on.
func TestAgendaHandedOver(t *testing.T) {
	d := newDiary(t)
	d.hold(3, "10.0.0.1") // announced in full
	d.run(3*time.Second, nil)
	d.hold(3, "10.0.0.2") // once
	d.hold(3, "10.0.0.6") // and is not held by the successor
	d.run(time.Second, nil)
	d.hold(3, "10.0.0.7") // failed
	d.run(10*time.Millisecond, func(a Announcement) bool { return false })
	d.hold(3, "10.0.0.3") // not at all
	d.Refused = 4
	d.sent = nil
	b, err := json.Marshal(d.HandOver(d.now))
	if err != nil {
		t.Fatal(err)
	}
	var h HandedAgenda
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	before := d.Stats()[3]

	next := newDiary(t)
	for i := range 5 {
		next.hold(3, fmt.Sprintf("10.0.0.%d", 1+i)) // .4 and .5 are new
	}
	next.hold(3, "10.0.0.7")
	next.Hold(Announcement{Index: 4, IP: netip.MustParseAddr("10.0.0.1"), MAC: wire.MAC{2, 4}}, 0)
	next.GoOn(&h, next.now)
	next.run(time.Minute, nil)
	at := map[string][]string{}
	for _, s := range next.sent {
		var when, ip string
		var index int
		fmt.Sscan(s, &when, &index, &ip)
		key := fmt.Sprint(index, " ", ip)
		at[key] = append(at[key], when)
	}
	for key, want := range map[string][]string{
		"3 10.0.0.1": nil, "3 10.0.0.2": {"990ms"}, "3 10.0.0.6": nil, "3 10.0.0.7": {"90ms", "2.09s"},
		"4 10.0.0.1": {"0s", "2s"},
	} {
		if !slices.Equal(at[key], want) {
			t.Errorf("%s is announced at %v, want %v", key, at[key], want)
		}
	}
	for i := 3; i <= 5; i++ {
		if got := at[fmt.Sprintf("3 10.0.0.%d", i)]; len(got) != AnnounceNum {
			t.Errorf("10.0.0.%d is announced at %v", i, got)
		}
	}
	want := before
	want.Held, want.Waiting, want.Taken, want.Released, want.Sent = 6, 0, before.Taken+2, 1, before.Sent+1+3*AnnounceNum+AnnounceNum
	if s := next.Stats()[3]; s != want || next.Refused != 4 {
		t.Errorf("%+v, want %+v; %d refused", s, want, next.Refused)
	}
}

// TestAgendaHandedOverMany: a thousand that are handed over in the middle go on at the
// rate, and none is forgotten.
func TestAgendaHandedOverMany(t *testing.T) {
	const many = 1000
	all := func(d *diary) {
		for i := range many {
			d.hold(3, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
		}
	}
	d, next := newDiary(t), newDiary(t)
	all(d)
	d.run(time.Second, nil)
	all(next)
	h := d.HandOver(d.now)
	next.GoOn(&h, next.now)
	sent := len(d.sent)
	next.run(0, nil)
	if len(next.sent) > 1 {
		t.Errorf("%d at once, behind a burst", len(next.sent))
	}
	next.run(time.Minute, nil)
	if s := next.Stats()[3]; s.Sent != many*AnnounceNum || sent+len(next.sent) != many*AnnounceNum || s.Waiting != 0 || s.Taken != many || s.Released != 0 {
		t.Errorf("%d before, %d after: %+v", sent, len(next.sent), s)
	}
}
