package pcapfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"testing"
	"testing/iotest"
)

// Whatever is read, the Reader does not panic, says the same however the bytes
// arrive, and gives packets that can be written and read again.
func FuzzReader(f *testing.F) {
	f.Add(sampleFile(f))
	for _, order := range orders { // a time before 1970, or in 2106, and more than a second
		f.Add((&builder{ByteOrder: order}).pcapHeader(magicMicro, 2, 4, 0, 1).pcapPacket(-1, -1, 1, 1, "x").buf)
	}
	for _, c := range damaged {
		for _, order := range orders {
			f.Add(c.file(&builder{ByteOrder: order}).buf)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		all, r, err := readAll(bytes.NewReader(file))
		same, _, again := readAll(iotest.HalfReader(bytes.NewReader(file)))
		if !reflect.DeepEqual(all, same) || (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
			t.Fatalf("%d packets, %v; in halves %d, %v", len(all), err, len(same), again)
		}
		if r == nil {
			return
		}
		for _, p := range all {
			if p.Interface == nil || p.LinkType != p.Interface.LinkType || len(p.Data) > int(p.Interface.SnapLen) {
				t.Fatalf("%+v of %+v", p, p.Interface)
			}
		}
		rewrite(t, all)
	})
}

// rewrite writes packets as pcapng and expects to read the same.
func rewrite(t *testing.T, all []Packet) {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file, &Section{})
	for i := range all {
		if err := w.WritePacket(&all[i]); err != nil {
			t.Fatal(err)
		}
		if s := all[i].Interface.Statistics; s != nil {
			if err := w.WriteStatistics(all[i].Interface, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	for i := range all {
		want := all[i]
		if err := r.Next(&p); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		ticks := want.ticks()
		want.Time, want.Odd, want.Nanoseconds, want.Has = max(want.Time, 0), Stamp{}, true, want.Has|HasTime
		if want.Time == math.MaxInt64 { // 2262 and later
			want.setTime(clock{perSecond: 1e9}, ticks)
		}
		iface := p.Interface
		if iface.Name != want.Interface.Name || iface.Filter != want.Interface.Filter || !bytes.Equal(iface.MAC, want.Interface.MAC) {
			t.Fatalf("packet %d of %+v, was of %+v", i, iface, want.Interface)
		}
		want.Interface = iface
		if len(want.Comments) == 0 {
			want.Comments = p.Comments
		}
		if !reflect.DeepEqual(p, want) {
			t.Fatalf("packet %d:\n got %+v\nwant %+v", i, p, want)
		}
	}
	if err := r.Next(&p); !errors.Is(err, io.EOF) {
		t.Fatalf("at the end: %v", err)
	}
}
