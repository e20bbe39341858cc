package claim

import "testing"

func TestLoad(t *testing.T) {
	s, err := Load(ARPPolice{PerSecond: 10000, Burst: 2000})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("sees GSO type:", s.SeesGSOType())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
