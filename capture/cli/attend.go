package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"proxyarpd/capture/source"
)

// attend serves who asks for counts while packets are taken, and tells of them
// each second where tcpdump does: with -v -w. What it returns ends that.
func (r *run) attend() (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	serve := func(asked <-chan os.Signal, do func()) {
		all.Go(func() {
			for {
				select {
				case <-asked:
					do()
				case <-done:
					return
				}
			}
		})
	}
	serve(r.Counts, r.tellCounts)
	serve(r.Flush, r.flushFiles)
	if r.live && r.verbose > 0 && r.write != "" && !r.print {
		all.Go(func() { r.tellProgress(done) })
	}
	return func() {
		close(done)
		all.Wait()
	}
}

// tellCounts is SIGUSR1.
func (r *run) tellCounts() {
	if !r.live {
		fmt.Fprintf(r.Err, "proxyarpd: %d packet%s so far\n", r.captured.Load(), plural(r.captured.Load()))
		return
	}
	r.source().AskStatistics(func(c source.Statistics) {
		fmt.Fprintln(r.Err, "proxyarpd: "+strings.Join(r.counts(c), ", "))
	})
}

// flushFiles is SIGUSR2: what has been captured is in the file, now.
func (r *run) flushFiles() {
	err := r.each(func(s sink) error {
		if f, ok := s.(*file); ok {
			return f.w.Flush()
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(r.Err, "proxyarpd: %s: %v\n", printable(r.write), err)
	}
}

// progress is how often the number of packets is told, if it has changed.
const progress = time.Second

func (r *run) tellProgress(done <-chan struct{}) {
	every := time.NewTicker(progress)
	defer every.Stop()
	for last, first := uint64(0), true; ; {
		select {
		case <-done:
			return
		case <-every.C:
		}
		if n := r.captured.Load(); first || n != last {
			fmt.Fprintf(r.Err, "Got %d\r", n)
			last, first = n, false
		}
	}
}

// source is where packets come from now. For any goroutine.
func (r *run) source() source.Source {
	r.srcMu.Lock()
	defer r.srcMu.Unlock()
	return r.src
}

// nextFile goes on with the next file of -V.
func (r *run) nextFile() error {
	old := r.src
	r.judged += old.Statistics().Verdicts
	r.read, r.files = r.files[0], r.files[1:]
	if err := r.openRead(); err != nil {
		return err
	}
	for _, s := range r.sinks {
		if f, ok := s.(*file); ok {
			f.sources = r.src
		}
	}
	return old.Close()
}

// nameNumbers makes names of the numbers of -i, which are those of -D, where no
// interface has such a name.
func (r *run) nameNumbers() error {
	for i, name := range r.interfaces {
		n, err := strconv.Atoi(name)
		if err != nil || exists(name) {
			continue
		}
		all, err := interfaceList()
		if err != nil {
			return err
		}
		if n < 1 || n > len(all) {
			return fmt.Errorf("%s: Invalid adapter index: proxyarpd capture -D lists them", name)
		}
		r.interfaces[i] = all[n-1].name
	}
	return nil
}
