package daemon

import (
	"slices"
	"time"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
)

// queue is what waits to be sent out.
type queue struct {
	out [lanes]bool // an errand of the lane is

	begin   *beginErrand
	adopt   *adoptErrand
	mac     []ref
	putBack []macs.Change // MACs of interfaces that lead to workloads no more
	end     *endErrand
	device  bool // is to be attached
	release []int
	claim   []ref
	later   []ref            // claims that can wait
	rest    <-chan time.Time // when the next of those may be made
	since   time.Time        // when the first of them began to wait
	rules   []ref
	member  []ref
	gate    *gateErrand
	dropped []int       // interfaces of which a job turned out not to be due, or not urgent
	read    []ref       // for the first time
	again   []ref       // because the kernel says so
	allConf bool        // so are those of "all"
	turn    *readErrand // a tick's, or a signal's
}

// idle reports whether nothing is out, and nothing waits but what can.
func (q *queue) idle() bool {
	return q.out == [lanes]bool{} && q.begin == nil && q.adopt == nil && len(q.mac)+len(q.putBack)+len(q.release)+len(q.claim)+len(q.rules)+len(q.member)+len(q.read) == 0
}

// add has a job done for a port.
func (q *queue) add(j job, p *port) {
	switch j {
	case jobMAC:
		q.mac, p.mac = append(q.mac, p.ref), underWay
	case jobMember:
		q.member, p.member = append(q.member, p.ref), underWay
	case jobRules:
		q.rules, p.rules = append(q.rules, p.ref), underWay
	case jobRead:
		q.read, p.read = append(q.read, p.ref), underWay
	case jobClaim:
		q.claim, p.claim = append(q.claim, p.ref), underWay
	case jobClaimLater:
		q.later, p.claim = append(q.later, p.ref), underWay
		q.putOff()
	}
}

// What comes with a new interface, its first packets above all, needs the RTNL
// lock: claims that can wait do so until there has been no further one for
// claimCalm, at most for claimPatience.
const (
	claimCalm     = 300 * time.Millisecond
	claimPatience = 2 * time.Second
)

func (q *queue) putOff() {
	now := time.Now()
	if len(q.later) == 1 {
		q.since = now
	}
	if now.Sub(q.since) < claimPatience {
		q.rest = time.After(claimCalm)
	}
}

// hurry makes a claim that could wait one that can't.
func (q *queue) hurry(p *port) {
	if at := slices.Index(q.later, p.ref); at >= 0 {
		q.later = slices.Delete(q.later, at, at+1)
		q.claim = append(q.claim, p.ref)
	}
}

// dispatch sends out what the lanes have room for. A port whose job is not due any
// more is looked at anew: nothing is waited for there.
func (o *owner) dispatch() {
	for again := true; again; {
		for l := range lanes {
			if o.work.out[l] {
				continue
			}
			if e := o.next(l); e != nil {
				o.work.out[l] = true
				o.send(l, e)
			}
		}
		dropped := o.work.dropped
		o.work.dropped = nil
		if again = len(dropped) > 0; again {
			o.look(dropped...)
		}
	}
}

// next takes the next errand of a lane, nil if there is none.
func (o *owner) next(l lane) errand {
	switch l {
	case laneMAC:
		return o.nextMAC()
	case laneClaim:
		return o.nextClaim()
	}
	return o.nextLook()
}

func (o *owner) nextMAC() errand {
	q := &o.work
	switch {
	case q.end != nil:
		e := *q.end
		q.end = nil
		return e
	case q.adopt != nil:
		e := *q.adopt
		q.adopt = nil
		return e
	case len(q.putBack) > 0:
		e := putBackErrand{changes: q.putBack}
		for _, c := range e.changes {
			e.moved = append(e.moved, o.moves(c.Ifindex, c.Want, false))
		}
		q.putBack = nil
		return e
	case len(q.mac) == 0:
		return nil
	}
	var e macErrand
	for _, r := range q.mac {
		l, p := o.find(r)
		if p == nil {
			continue
		}
		w := o.wants(l, p)
		if !w.mac {
			p.mac = todo // should it be wanted again
			q.dropped = append(q.dropped, r.index)
			continue
		}
		e.refs = append(e.refs, r)
		e.changes = append(e.changes, macs.Change{Ifindex: r.index, Name: l.Name, Current: l.MAC, Want: w.device})
		var m moved
		// Where the kernel forwards, a daemon that ended has told of the former one, too.
		if takesOwn[l.Kind] || l.Forwards || l.Forwards6 {
			m = o.moves(r.index, w.device, true)
		}
		e.moved = append(e.moved, m)
	}
	if q.mac = nil; len(e.refs) == 0 {
		return nil
	}
	return e
}

func (o *owner) nextClaim() errand {
	q := &o.work
	if q.device {
		q.device = false
		return deviceErrand{}
	}
	if len(q.release) > 0 {
		e := releaseErrand{q.release[0]}
		q.release = q.release[1:]
		return e
	}
	for len(q.claim) > 0 {
		r := q.claim[0]
		q.claim = q.claim[1:]
		switch due, hurry := o.stillToClaim(r); {
		case due && hurry:
			return claimErrand{ref: r}
		case due: // what made it urgent is known by now: how programs are attached
			q.later = append(q.later, r)
			q.putOff()
		}
		q.dropped = append(q.dropped, r.index)
	}
	for len(q.later) > 0 && q.rest == nil {
		r := q.later[0]
		q.later = q.later[1:]
		if due, _ := o.stillToClaim(r); due {
			return claimErrand{ref: r, later: true}
		}
	}
	return nil
}

// stillToClaim reports whether a claim is still wanted, and cannot wait.
func (o *owner) stillToClaim(r ref) (due, hurry bool) {
	l, p := o.find(r)
	if p == nil {
		return false, false
	}
	w := o.wants(l, p)
	if !w.claim {
		p.claim = todo
	}
	return w.claim, w.hurry
}

// readTogether is how many interfaces' settings are read by one errand.
const readTogether = 64

func (o *owner) nextLook() errand {
	q := &o.work
	switch {
	case q.begin != nil:
		e := *q.begin
		q.begin = nil
		return e
	case len(q.rules) > 0:
		return o.nextRules()
	case q.gate != nil:
		e := *q.gate
		q.gate = nil
		return e
	case len(q.member) > 0:
		e := memberErrand{q.member[0]}
		q.member = q.member[1:]
		return e
	case len(q.read)+len(q.again) > 0 || q.allConf:
		n := min(len(q.read), readTogether)
		e := readErrand{ifs: o.toRead(append(q.again, q.read[:n]...)), all: q.allConf, knownAll: o.confAll, knownAll6: o.confAll6}
		q.read, q.again, q.allConf = q.read[n:], nil, false
		return e
	case q.turn != nil:
		e := *q.turn
		q.turn = nil
		e.knownHost, e.knownAll, e.knownAll6 = o.host, o.confAll, o.confAll6
		return e
	}
	return nil
}

func (o *owner) nextRules() errand {
	var e rulesErrand
	for _, r := range o.work.rules {
		if l, p := o.find(r); p != nil {
			p.qdisc = l.Qdisc
			e.refs = append(e.refs, r)
			e.ifs = append(e.ifs, hostpolicy.Interface{Name: l.Name, Index: l.Index})
		}
	}
	if o.work.rules = nil; len(e.refs) == 0 {
		return nil
	}
	return e
}

func (o *owner) toRead(refs []ref) (ifs []readInterface) {
	for _, r := range refs {
		if l, p := o.find(r); p != nil {
			ifs = append(ifs, readInterface{ref: r, name: l.Name, known: p.conf})
		}
	}
	return ifs
}
