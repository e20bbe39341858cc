package daemon

import (
	"context"
	"runtime"
	"sync"

	"proxyarpd/arpd"
)

// runner is a part that runs on one goroutine, and can be made to return and to run again there.
type runner struct {
	life  context.Context
	began chan struct{} // closed when it runs for the first time
	first sync.Once

	mu    sync.Mutex
	end   context.CancelFunc // of what runs
	over  chan struct{}      // closed behind it
	again chan struct{}      // closed when it is to run again
}

// run returns with life, or with an error of the part.
func (r *runner) run(part func(context.Context) error) error {
	for {
		ctx, end := context.WithCancel(r.life)
		over, again := make(chan struct{}), make(chan struct{})
		r.mu.Lock()
		r.end, r.over, r.again = end, over, again
		r.mu.Unlock()
		r.first.Do(func() { close(r.began) })
		err := part(ctx)
		close(over)
		end()
		if err != nil {
			return err
		}
		select {
		case <-again:
		case <-r.life.Done():
			return nil
		}
	}
}

// halt has the part return, once it has begun.
func (r *runner) halt() {
	<-r.began
	r.mu.Lock()
	end, over := r.end, r.over
	r.mu.Unlock()
	end()
	<-over
}

// resume has it run again, after halt.
func (r *runner) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.again)
}

// runResponders runs those of ARP and of neighbour discovery.
func (d *Daemon) runResponders() {
	d.runResponder(&d.arpRun, d.arp, &d.answering)
	if d.nd != nil {
		d.runResponder(&d.ndRun, d.nd, &d.discovering)
	}
}

// runResponder runs one, on one thread: who may not lower a nice value any more can't have another one that answers.
func (d *Daemon) runResponder(r *runner, to *arpd.Responder, a *answering) {
	d.group.Go(func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer a.begin()()
		return r.run(func(ctx context.Context) error {
			a.owns()
			return to.Run(ctx)
		})
	})
}

// haltResponders has them return. What comes waits in their sockets.
func (d *Daemon) haltResponders() {
	d.arpRun.halt()
	if d.nd != nil {
		d.ndRun.halt()
	}
}

// resumeResponders has them run again, after haltResponders.
func (d *Daemon) resumeResponders() {
	d.arpRun.resume()
	if d.nd != nil {
		d.ndRun.resume()
	}
}
