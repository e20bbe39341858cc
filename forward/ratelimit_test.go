package forward

import (
	"math/rand/v2"
	"testing"

	"proxyarpd/forward/route"
)

// inetPeer is what net/ipv4/route.c makes of a peer, in ticks and in the
// kernel's types.
type inetPeer struct {
	tokens    uint32
	last      int64
	redirects int32
}

type routeSysctls struct{ errorCost, errorBurst, redirectLoad, redirectNumber, redirectSilence int32 }

// allowError is the middle of ip_error.
func (p *inetPeer) allowError(now int64, s *routeSysctls) bool {
	p.tokens += uint32(now - p.last)
	if p.tokens > uint32(s.errorBurst) {
		p.tokens = uint32(s.errorBurst)
	}
	p.last = now
	if p.tokens < uint32(s.errorCost) {
		return false
	}
	p.tokens -= uint32(s.errorCost)
	return true
}

// allowRedirect is the middle of ip_rt_send_redirect.
func (p *inetPeer) allowRedirect(now int64, s *routeSysctls) bool {
	if now > p.last+int64(s.redirectSilence) {
		p.tokens, p.redirects = 0, 0
	}
	if p.redirects >= s.redirectNumber {
		p.last = now
		return false
	}
	if p.redirects == 0 || now > p.last+int64(s.redirectLoad<<p.redirects) {
		p.last = now
		p.redirects++
		return true
	}
	return false
}

// TestRouteLimits sends errors and redirects at random times, by random settings,
// as the kernel would and not more.
func TestRouteLimits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	src := peer4([4]byte{10, 0, 0, 1})
	for _, hz := range []int64{100, 250, 300, 1000} {
		tick := second / hz
		for range 200 {
			less := func(most int32) int32 { return rnd.Int32N(most+2) - 1 } // with 0, and less than nothing
			s := routeSysctls{less(int32(2 * hz)), less(int32(8 * hz)), less(int32(hz / 10)), less(12), less(int32(40 * hz))}
			conf := route.HostConf{ErrorCost: int64(s.errorCost) * tick, ErrorBurst: int64(s.errorBurst) * tick, RedirectLoad: int64(s.redirectLoad) * tick,
				RedirectNumber: int(s.redirectNumber), RedirectSilence: int64(s.redirectSilence) * tick}
			if s.errorCost < 0 {
				conf.ErrorCost = route.MaxTime
			}
			if s.errorBurst < 0 {
				conf.ErrorBurst = route.MaxTime
			}
			now := 100 * hz // the machine is up so long
			kernel := inetPeer{last: now - 60*hz}
			var ours icmpLimiter
			for i := range 300 {
				switch rnd.IntN(8) {
				case 0:
				case 1:
					now += rnd.Int64N(30 * hz)
				default:
					now += rnd.Int64N(hz)
				}
				var want, got bool
				if redirect := rnd.IntN(2) == 0; redirect {
					want, got = kernel.allowRedirect(now, &s), ours.allowRedirect(src, now*tick, &conf)
				} else {
					want, got = kernel.allowError(now, &s), ours.allowError(src, now*tick, &conf)
				}
				if got != want {
					t.Fatalf("HZ %d, %+v: packet %d at %d: %t, want %t", hz, s, i, now, got, want)
				}
			}
		}
	}
}

// TestRouteLimitDefaults: one error a second and five saved up; nine redirects,
// each after twice the time.
func TestRouteLimitDefaults(t *testing.T) {
	conf, now := route.DefaultHostConf, 100*second
	count := func(times int, step int64, allow func(src peerKey, now int64, conf *route.HostConf) bool) (n int) {
		for range times {
			if allow(peer4([4]byte{10, 0, 0, 1}), now, &conf) {
				n++
			}
			now += step
		}
		return n
	}
	var l icmpLimiter
	if n := count(100, second/1000, l.allowError); n != 5 {
		t.Errorf("%d errors at once, want 5", n)
	}
	if n := count(100, second/10, l.allowError); n != 10 {
		t.Errorf("%d errors in 10 s, want 10", n)
	}
	l = icmpLimiter{}
	if n := count(20000, second/1000, l.allowRedirect); n != 9 {
		t.Errorf("%d redirects in 20 s, want 9", n)
	}
	if n := count(100, second, l.allowRedirect); n != 0 {
		t.Errorf("%d redirects while they are ignored, want none", n)
	}
	now += 21 * second
	if n := count(1, 1, l.allowRedirect); n != 1 {
		t.Error("no redirect after the silence")
	}
}

// A shift beyond 64 bits is no short time.
func TestDoubled(t *testing.T) {
	for _, c := range []struct {
		t    int64
		n    int
		want int64
	}{{0, 5, 0}, {3, 2, 12}, {-1, 3, -8}, {1, 62, 1 << 62}, {1, 63, route.MaxTime}, {1 << 40, 30, route.MaxTime}, {1, 1000, route.MaxTime}} {
		if got := doubled(c.t, c.n); got != c.want {
			t.Errorf("%d << %d = %d, want %d", c.t, c.n, got, c.want)
		}
	}
}
