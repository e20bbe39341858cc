package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestRingOrder: what goes in comes out whole and in order, while a writer and a
// reader race; what found no room is counted.
func TestRingOrder(t *testing.T) {
	const packets = 200_000
	r := NewRing[uint64](64, 4096)
	go func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for i := uint64(1); i <= packets; i++ {
			n := 8 + rng.IntN(600)
			facts, data := r.Reserve(n)
			if facts == nil {
				runtime.Gosched()
				continue
			}
			*facts = i
			for j := range data {
				data[j] = byte(i)
			}
			binary.LittleEndian.PutUint64(data, i)
			r.Commit()
		}
		for {
			if facts, _ := r.Reserve(0); facts != nil {
				*facts = packets + 1
				r.Commit()
				return
			}
			r.lost.Add(^uint64(0))
			runtime.Gosched()
		}
	}()
	var last, got uint64
	for {
		facts, data := r.Peek()
		if facts == nil {
			runtime.Gosched()
			continue
		}
		if *facts <= last {
			t.Fatalf("%d after %d", *facts, last)
		}
		last = *facts
		if last == packets+1 {
			break
		}
		if binary.LittleEndian.Uint64(data) != last || data[len(data)-1] != byte(last) && len(data) > 8 {
			t.Fatalf("packet %d has others' bytes", last)
		}
		got++
		r.Next()
	}
	if got+r.Lost() != packets || got == 0 {
		t.Errorf("%d read, %d lost of %d", got, r.Lost(), packets)
	}
}

func TestRingBounds(t *testing.T) {
	r := NewRing[int](2, 100)
	if f, _ := r.Reserve(101); f != nil {
		t.Error("more than there is")
	}
	for range 3 {
		if f, d := r.Reserve(60); f == nil || len(d) != 60 {
			t.Fatal("no room in an empty ring")
		}
		r.Commit()
		if f, _ := r.Reserve(60); f != nil {
			t.Error("two of 60 bytes in 100")
		}
		if f, _ := r.Peek(); f == nil {
			t.Fatal("not there")
		}
		r.Next()
	}
	for range 3 {
		if f, _ := r.Reserve(99); f == nil {
			t.Fatal("no room for a large one in an empty ring")
		}
		r.Commit()
		r.Peek()
		r.Next()
	}
	if r.Lost() != 4 {
		t.Errorf("%d lost", r.Lost())
	}
}

// TestRingNoAllocations: the writer runs on the datapath.
func TestRingNoAllocations(t *testing.T) {
	r := NewRing[[4]uint64](16, 4096)
	if n := testing.AllocsPerRun(1000, func() {
		if f, d := r.Reserve(200); f != nil {
			f[0], d[0] = 1, 1
			r.Commit()
			r.Peek()
			r.Next()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
