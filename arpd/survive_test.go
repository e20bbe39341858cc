package arpd

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An interface that goes down between a request and its answer.
func TestResponderInterfaceGoesDown(t *testing.T) {
	for _, settled := range []bool{false, true} {
		l := newLab(t)
		s, other := l.veth("cali1"), l.veth("cali2")
		other.awaitSettled()
		policies := map[int]*Policy{s.index: s.policy(), other.index: other.policy()}
		r := l.start(Options{Lookup: func(ifindex int) (*Policy, bool) {
			if ifindex == s.index {
				if err := l.hostLinks.LinkSetDown(s.host); err != nil {
					t.Error(err)
				}
			}
			p := policies[ifindex]
			p.Settled = settled
			return p, true
		}})
		l.must(s.send(s.who("169.254.1.1").bytes()))
		await(t, r, "the lost answer is counted", func(st Stats) bool {
			return st.ByVerdict[DropIfDown] == 1 && st.Interfaces[s.index].Requests == 1
		})
		other.ask(other.who("169.254.1.1"))
	}
}

func TestResponderInterfaceDeletedInFlood(t *testing.T) {
	l := newLab(t)
	other := l.veth("cali0")
	policies := map[int]*Policy{other.index: other.policy()}
	r := l.start(Options{RatePerSecond: -1, SenderPerSecond: -1})
	for i := range 5 {
		s := l.veth(fmt.Sprintf("cali%d", i+1))
		policies[s.index] = s.policy()
		r.Publish(policies)
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			for b := s.who("169.254.1.1").bytes(); s.send(b) == nil; {
			}
		}()
		if _, err := s.reply(patience); err != nil {
			t.Error(err)
		}
		l.must(l.hostLinks.LinkDel(s.host))
		<-flooded
		// Its frames may fill the queue still.
		await(t, r, "the queue is empty", func(st Stats) bool { return queueEmpty(t, r) })
		other.ask(other.who("169.254.1.1"))
	}
	if c := r.Stats().ByVerdict; c[NotSpecified] != 0 {
		t.Errorf("counters %s", c)
	}
}

func queueEmpty(t *testing.T, r *Responder) (empty bool) {
	t.Helper()
	if err := control(r.sock.raw, func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		empty = n == 0
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return empty
}

func TestResponderRateLimit(t *testing.T) {
	l := newLab(t)
	noisy, calm := l.veth("cali1"), l.veth("cali2")
	const rate, burst = 50, 30
	r := l.start(Options{RatePerSecond: rate, Burst: burst, SenderPerSecond: -1})
	r.Publish(map[int]*Policy{noisy.index: noisy.policy(), calm.index: calm.policy()})

	begin := time.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // as fast as goes without filling the queue of the socket
		defer close(stopped)
		b := noisy.who("169.254.1.1").bytes()
		for sent := uint64(0); ; sent++ {
			select {
			case <-stop:
				return
			default:
			}
			if sent-r.Stats().Interfaces[noisy.index].Requests < 200 {
				_ = noisy.send(b)
			} else {
				sent--
			}
		}
	}()
	await(t, r, "the flood is limited", func(st Stats) bool { return st.ByVerdict[DropRateLimit] > 1000 })
	for range burst {
		calm.ask(calm.who("169.254.1.1"))
	}
	close(stop)
	<-stopped
	most := uint64(burst + rate*time.Since(begin).Seconds() + 1)
	st := r.Stats()
	if n := st.Interfaces[noisy.index].Replies; n < burst || n > most {
		t.Errorf("%d answers to the flood, want %d to %d", n, burst, most)
	}
	if c := st.Interfaces[calm.index]; c.Replies != burst || c.ByVerdict[DropRateLimit] != 0 {
		t.Errorf("the calm one: %s", c.ByVerdict)
	}
}

// What the queue cannot hold is counted.
func TestResponderOverflow(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	r, err := Open(Options{})
	l.must(err)
	defer r.Close()
	const n = 5000
	for b := s.who("169.254.1.1").bytes(); r.Stats().ByVerdict[DropReceiveOverflow] < n; {
		l.must(s.send(b))
	}
}
