package afpacket

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"proxyarpd/forward/claim"
)

const (
	// underWay is how long a frame may be on its way into a ring that was chosen for it
	// just before another would have been.
	underWay = 200 * time.Microsecond
	// held is how long a ring is not read at most, for the sake of order: much less than
	// what the filter takes for a stall.
	held = 10 * time.Millisecond
	// calm is how long to wait for a moment in which no packet waits for a next hop.
	calm = time.Second
	// waited is longer than a packet waits for a next hop.
	waited = 5 * time.Second
)

// CanHave reports why there can't be n workers: only the programs' choice of a ring
// can be changed without a loss, and they have room for so many.
func (e *Engine) CanHave(n int) error {
	switch set := e.Set(); {
	case n == e.Workers():
		return nil
	case set == nil:
		return errors.New("the kernel chooses the threads, for want of eBPF: restart the daemon")
	case n > set.Rooms():
		return roomError(set.Rooms())
	}
	return nil
}

func roomError(rooms int) error {
	return fmt.Errorf("there is room for %d threads that forward: restart the daemon", rooms)
}

// OpenWorkers makes what further workers need, up to n in all. They get no frames
// before SetWorkers. If it fails all is as it was.
func (e *Engine) OpenWorkers(n int) error {
	was := e.Workers()
	if err := e.openWorkers(n); err != nil {
		return errors.Join(err, e.CloseWorkers(was))
	}
	return nil
}

// CloseWorkers gives back those of OpenWorkers that are not wanted after all.
func (e *Engine) CloseWorkers(n int) (err error) {
	for all := e.all(); len(all) > n; all = e.all() {
		err = errors.Join(err, e.closeLast(all))
	}
	return err
}

// closeLast closes the last worker, which does not run: the last ring of a group can
// go without another one getting its number.
func (e *Engine) closeLast(all []*worker) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := all[len(all)-1]
	c := last.stats()
	e.gone.Add(&c)
	if last.window != nil {
		last.window.Reset()
		if err := last.window.Press(false); err != nil {
			e.log.Warn("the quota of interfaces stays small", "err", err)
		}
	}
	all = all[:len(all)-1]
	e.workers.Store(&all)
	return last.conn.Close()
}

// SetWorkers has n threads forward from now on, of which from did so far; OpenWorkers
// has made those that are new. No frame is lost, and flows keep their order: what
// came first leaves first, from whatever ring. So all frames go to the first ring,
// which is not read before the others are empty, and then to all that there are to
// be, the others of which are not read until the first is past what it had.
//
// A reader that does not get on holds nobody up for long, nor does a next hop; then
// packets may leave in another order. It waits as long as a packet may wait for its
// next hop, is for one goroutine, and Run must have been called and not return
// meanwhile.
func (e *Engine) SetWorkers(from, n int) error {
	all := e.all()
	if err := e.beginNew(all[from:]); err != nil {
		return err
	}
	first, others := all[:1], all[1:]
	awaitNone(calm, all, (*worker).waits)
	var err error
	if from > 1 {
		err = e.between(first, 1, func() bool { return !slices.ContainsFunc(others, (*worker).busy) })
	}
	if err == nil && n > 1 {
		var given uint64
		err = e.between(others[:max(from, n)-1], n, func() bool {
			if given == 0 {
				given = first[0].window.Given()
			}
			return first[0].window.Past(given) && !first[0].waits()
		})
	}
	if err != nil || n >= from {
		return err
	}
	return errors.Join(claim.Grace(), e.retire(n))
}

// waits reports whether packets wait for a route or a next hop, and busy whether any
// are in the ring or wait.
func (w *worker) waits() bool { return w.loop.Waits() }
func (w *worker) busy() bool  { return w.window.Depth() != 0 || w.waits() }

// awaitNone waits until something is so of no worker, for a time at most.
func awaitNone(most time.Duration, all []*worker, so func(*worker) bool) {
	for end := time.Now().Add(most); time.Now().Before(end) && slices.ContainsFunc(all, so); {
		time.Sleep(time.Millisecond)
	}
}

// between has n rings get frames, and does not have some workers read theirs until
// the others are so far.
func (e *Engine) between(not []*worker, n int, far func() bool) error {
	for _, w := range not {
		w.conn.Hold(true)
		defer w.conn.Hold(false)
	}
	if err := e.spread(n); err != nil {
		return err
	}
	time.Sleep(underWay)
	for end := time.Now().Add(held); !far(); time.Sleep(underWay / 4) {
		if time.Now().After(end) {
			e.log.Warn("a thread that forwards, or a next hop, does not get on: packets of a flow may change places")
			break
		}
	}
	return nil
}

// beginNew starts workers, and returns when they own their rings.
func (e *Engine) beginNew(all []*worker) error {
	for _, w := range all {
		e.mu.Lock()
		if e.running == nil {
			e.mu.Unlock()
			return errors.New("the engine is ending")
		}
		w.loop.Publish(e.all()[0].loop.Table())
		w.loop.SetTap(e.tap)
		err := w.conn.SetMark(e.mark)
		e.begin(w)
		e.mu.Unlock()
		e.await(w)
		if err != nil {
			return err
		}
	}
	return nil
}

// retire ends all but the first n workers, which get no frames any more, as soon as
// nothing of theirs waits.
func (e *Engine) retire(n int) (err error) {
	all := e.all()
	awaitNone(waited, all[n:], (*worker).busy)
	for ; len(all) > n; all = e.all() {
		last := all[len(all)-1]
		last.end()
		<-last.over
		err = errors.Join(err, e.closeLast(all))
	}
	return err
}
