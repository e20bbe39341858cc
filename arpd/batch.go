package arpd

import "time"

// batch takes the n frames that the socket has just received to their ends.
func (r *Responder) batch(n int) {
	snap, tap := r.begin()
	now := r.now()
	r.news = newsUnasked
	for i := range n {
		r.take(r.sock.frame(i), *snap, now, tap)
	}
	r.flushAll(tap)
}

// hearClaim tells of a frame whose sender says that it has one of the addresses that are
// answered there, a reply too: on an uplink, and by another protocol than ARP also one
// that is a workload's gateway (of ARP Claims hears that).
func (r *Responder) hearClaim(f frame, p *Policy, v Verdict) {
	if r.claimed == nil || p.Uplink == nil && r.question.other == nil || v != NotSpecified && v != IgnoreReply && v != IgnoreAdvertisement {
		return
	}
	if c, ok := r.question.claim(f.data, f.ifindex); ok && p.answersFor(c.IP) && !p.isUs(c.MAC) {
		r.claimed(c)
	}
}

// take takes one frame to its end, or to where its reply is staged.
func (r *Responder) take(f frame, snap snapshot, now int64, tap *Tap) {
	e, v := r.entry(snap, f.ifindex, now)
	if v == DropUnknownIf && r.question.parse(f.data) == NotSpecified && r.hold(f, nil, now, tap) {
		return // its interface may be one of the changes
	}
	if v == NotSpecified {
		v = r.question.read(f, e.policy)
		r.hearClaim(f, e.policy, v)
	}
	if v == NotSpecified {
		v = r.judge(f, e, now)
		if e.policy.unrouted(v) && e.policy.lacksRoute(r.question.asker(e.policy)) {
			if r.hold(f, e, now, tap) {
				return
			}
			v = r.judge(f, e, now) // what is known now is all there is
		}
	}
	if v != Answered {
		r.finish(f, e, nil, v, tap)
	}
}

// begin gives what is in force for a batch.
func (r *Responder) begin() (*snapshot, *Tap) {
	snap := r.ports.snap.Load()
	r.strays.sync(snap)
	return snap, r.tap.Load()
}

// judge decides about the request that was read last. With Answered the reply is staged,
// and the frame that it was read from must stay as it is until flushAll.
func (r *Responder) judge(f frame, e *entry, now int64) Verdict {
	out := r.sock.via(e.policy)
	size, v := r.answer(out.next(), e, now)
	if v == Answered {
		out.stage(size, origin{frame: f, entry: e})
	}
	return v
}

// entry finds what applies to an interface. The verdict is NotSpecified if there
// is something.
func (r *Responder) entry(snap snapshot, ifindex int, now int64) (*entry, Verdict) {
	if e := snap[ifindex]; e != nil {
		return e, NotSpecified
	}
	e, asked := r.strays.said[ifindex]
	if !asked {
		var known bool
		if e, known = r.ask(ifindex, now); !known {
			return nil, DropUnknownIf
		}
		r.strays.remember(ifindex, e)
	}
	if e == nil {
		return nil, IgnoreNotWorkload
	}
	return e, NotSpecified
}

func (r *Responder) ask(ifindex int, now int64) (e *entry, known bool) {
	if r.lookup == nil {
		return nil, true
	}
	switch p, ok := r.lookup(ifindex); {
	case !ok:
		return nil, true
	case p == nil:
		return nil, false
	default:
		return &entry{policy: p, port: r.ports.port(ifindex, now)}, true
	}
}

func (r *Responder) answer(reply []byte, e *entry, now int64) (int, Verdict) {
	n, v := r.question.answer(reply, e.policy)
	if v != Answered {
		return 0, v
	}
	who := r.question.asker(e.policy)
	if !r.senders.take(who, now) {
		return 0, DropSenderRate
	}
	if !e.port.bucket.take(r.ports.limit, now) {
		return 0, DropRateLimit
	}
	r.learn(who, e, now)
	if who.IsProbe() {
		e.port.defended.Add(1)
		r.defended.Add(1)
	}
	if p := e.policy; p.fromUnrouted(who) && !r.stillBehind() && p.fromUnrouted(who) {
		e.port.unrouted.Add(1)
		r.unrouted.Add(1)
		r.tellUnrouted(who)
	}
	return n, Answered
}

// flushAll sends the replies of a batch.
func (r *Responder) flushAll(tap *Tap) {
	r.flush(r.sock.queued, tap)
	r.flush(r.sock.direct, tap)
}

// flush sends the staged replies. A reply that cannot be sent is lost alone.
func (r *Responder) flush(out *sender, tap *Tap) {
	for sent := 0; sent < out.staged; {
		n, v := out.send(sent)
		if n == 0 { // the first of them is what failed
			o := out.origin[sent]
			r.finish(o.frame, o.entry, nil, v, tap)
			sent++
			continue
		}
		var now int64
		if out.origin[sent].frame.received != 0 {
			now = time.Now().UnixNano()
		}
		for i := sent; i < sent+n; i++ {
			o := out.origin[i]
			if now != 0 && o.frame.received != 0 {
				r.times.observe(time.Duration(now - o.frame.received))
			}
			r.finish(o.frame, o.entry, out.reply(i), Answered, tap)
		}
		sent += n
	}
	out.reset()
}

// finish is the one place where a frame ends.
func (r *Responder) finish(f frame, e *entry, reply []byte, v Verdict, tap *Tap) {
	r.count(e, v)
	id := f.id
	if tap != nil {
		id = (*tap)(id, f.ifindex, f.data, reply, v)
	}
	if r.recorder != nil && v.Kind() == KindDrop {
		r.recorder(id, f.ifindex, f.received, f.data, v)
	}
}

func (r *Responder) count(e *entry, v Verdict) {
	r.total[v].Add(1)
	if e != nil {
		e.port.counts[v].Add(1)
	}
}
