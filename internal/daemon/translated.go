package daemon

import (
	"context"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/conntrack"
)

// translatedPause is how long it takes until it is tried again to follow the kernel's flows.
const translatedPause = 5 * time.Second

// openTranslated begins to follow which flows the kernel translates, if any may be left to it: before the first frame
// is taken, so that flows which are older than the daemon stay the kernel's.
func (d *Daemon) openTranslated(ctx context.Context) {
	set := d.programs.Set()
	if set == nil || d.translated != nil || !d.config().programs().Translates {
		return
	}
	m, err := conntrack.Open(ctx, conntrack.Config{
		Set:   func(e conntrack.End, has bool) error { return set.SetTranslated(claim.End(e), has) },
		Hears: func(hears bool, why error) { d.hearsTranslated(hears, why) },
		Max:   claim.MaxTranslated,
		IPv6:  d.config().IPv6,
	})
	if err != nil {
		d.hearsTranslated(false, err)
		return
	}
	d.translated = m
}

func (d *Daemon) hearsTranslated(hears bool, why error) {
	if err := d.programs.Set().HearsTranslated(hears); err != nil {
		why = err
	}
	if why != nil {
		d.log.Warn("it is not known of all flows that the kernel translates them: of those that are older than the daemon, or were silent while many others began, replies may be lost", "err", why)
	}
}

// followTranslated goes on with that for the daemon's life. What is followed ends, and begins, with a reload.
func (d *Daemon) followTranslated(ctx context.Context) {
	changed := make(chan struct{}, 1)
	d.reloads.onChange("translated", func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for ctx.Err() == nil {
		d.openTranslated(ctx)
		if d.translated != nil {
			d.runTranslated(ctx, changed)
		}
		wait := translatedPause
		if !d.config().programs().Translates {
			wait = time.Hour // a reload ends it
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// runTranslated follows until that fails, the daemon ends, or a reload says that nothing is left to the kernel any more
// that it may translate.
func (d *Daemon) runTranslated(life context.Context, changed <-chan struct{}) {
	ctx, end := context.WithCancel(life)
	defer end()
	done := make(chan error, 1)
	go func() { done <- d.translated.Run(ctx) }()
	for {
		select {
		case <-changed:
			if !d.config().programs().Translates {
				end()
			}
		case err := <-done:
			if life.Err() != nil {
				return // who closes the daemon closes it
			}
			if err != nil {
				d.hearsTranslated(false, err)
			}
			if err := d.translated.Close(); err != nil {
				d.log.Warn("can't close the socket of translated flows", "err", err)
			}
			d.translated = nil
			return
		}
	}
}
