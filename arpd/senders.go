package arpd

import "hash/maphash"

// rememberedSenders bounds how many senders are told apart at a time.
const rememberedSenders = 4096

// senders is what each sender has had of an interface's answers, so that one who
// asks without end does not use up what others behind the same interface need. The
// filter of the socket does the same before the queue, where there is one that can
// (parp_arp in forward/claim/bpf). It is Run's alone, and of one size.
//
// A sender is its address, or that of a probe, which has none, its MAC. One that
// finds another in its place takes it, with a full bucket: who is forgotten so has
// nothing held against it. Who asks by ever new addresses meets its
// interface's limit.
type senders struct {
	limit limit
	seed  maphash.Seed
	all   []senderShare
}

type senderKey struct {
	ifindex int32
	probe   bool
	address [16]byte
}

type senderShare struct {
	key    senderKey
	bucket bucket
}

func newSenders(l limit) senders {
	s := senders{limit: l, seed: maphash.MakeSeed()}
	if l.cost != 0 {
		s.all = make([]senderShare, rememberedSenders)
	}
	return s
}

// take reports whether one more answer to the sender of a request is allowed.
func (s *senders) take(a Asker, now int64) bool {
	if s.limit.cost == 0 {
		return true
	}
	key := senderKey{ifindex: int32(a.Index), probe: a.IsProbe()}
	if key.probe {
		copy(key.address[:], a.MAC[:])
	} else {
		key.address = a.IP.As16()
	}
	share := &s.all[maphash.Comparable(s.seed, key)%rememberedSenders]
	if share.key != key {
		*share = senderShare{key, newBucket(s.limit, now)}
	}
	return share.bucket.take(s.limit, now)
}
