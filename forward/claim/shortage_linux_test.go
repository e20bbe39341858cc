package claim

import (
	"errors"
	"testing"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/shortage"
)

// A shortage of descriptors is told as one, and forgotten when it is over: it
// does not mean that the kernel can't.
func TestShortage(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	reference := load(t)
	step := 1
	if nstest.Race { // which makes loading dear
		step = 5
	}
	for but := 0; but < 2*loadDescriptors; but += step {
		nstest.NoDescriptors(t, but, func() {
			s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}})
			if err == nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if but < 4 {
					t.Errorf("loaded with %d descriptors", but)
				}
				return
			}
			if !shortage.Passing(err) || errors.Is(err, ErrNotSupported) {
				t.Errorf("load with %d descriptors: %v", but, err)
			}
		})
	}
	for _, m := range []Mode{Auto, TCX, Clsact} {
		s := load(t)
		if s.SeesGSOType() != reference.SeesGSOType() {
			t.Errorf("after a shortage: sees GSO types %v", s.SeesGSOType())
		}
		if info, err := s.claim.Info(); err != nil {
			t.Error(err)
		} else if info.Name != programName {
			t.Errorf("after a shortage: program %q", info.Name)
		}
		s.SetMode(m)
		nstest.NoDescriptors(t, 0, func() {
			if err := s.Claim(e.index); !shortage.Passing(err) || errors.Is(err, ErrNotSupported) {
				t.Errorf("%s without descriptors: %v", m, err)
			}
		})
		if s.Claimed(e.index) || s.Mode() != m {
			t.Errorf("%s after a shortage: claimed, mode %s", m, s.Mode())
		}
		if err := s.Claim(e.index); err != nil {
			t.Errorf("%s after a shortage: %v", m, err)
		}
		if m == Auto && s.Mode() == Clsact && reference.hasTCX() {
			t.Error("auto is clsact after a shortage")
		}
		nstest.NoDescriptors(t, 0, func() {
			if err := s.Release(e.index); err != nil {
				t.Errorf("%s let go without descriptors: %v", m, err)
			}
		})
		expect(t, e, "released")
	}
}

func (s *Set) hasTCX() bool { return haveTCX(s.claim.FD()) }
