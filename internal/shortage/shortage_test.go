package shortage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestPassing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{syscall.EMFILE, true},
		{os.NewSyscallError("bpf", syscall.ENFILE), true},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOMEM}, true},
		{fmt.Errorf("a: %w", fmt.Errorf("b: %w", syscall.ENOBUFS)), true},
		{errors.Join(syscall.EPERM, syscall.EAGAIN), true}, // it shows when the shortage is over
		{context.DeadlineExceeded, true},
		{os.ErrDeadlineExceeded, true},
		{syscall.ENOSPC, true},
		{syscall.EPERM, false},
		{syscall.EINVAL, false},
		{syscall.ENODEV, false},
		{syscall.E2BIG, false},
		{context.Canceled, false},
		{os.ErrClosed, false},
		{errors.New("too many open files"), false},
	} {
		if got := Passing(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: 3, Most: 20}
	for _, want := range []time.Duration{3, 6, 12, 20, 20} {
		if got := b.Next(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	b.Reset()
	if got := b.Next(); got != 3 {
		t.Errorf("after a success: %d", got)
	}
}

func TestRetry(t *testing.T) {
	for name, c := range map[string]struct {
		errs  []error // one an attempt
		limit time.Duration
		want  error
		tries int
	}{
		"at once":            {[]error{nil}, time.Minute, nil, 1},
		"passes":             {[]error{syscall.EMFILE, syscall.ENOMEM, nil}, time.Minute, nil, 3},
		"stays":              {[]error{syscall.EPERM, nil}, time.Minute, syscall.EPERM, 1},
		"passes, then fails": {[]error{syscall.EMFILE, syscall.EINVAL, nil}, time.Minute, syscall.EINVAL, 2},
		"for too long":       {[]error{syscall.EMFILE, nil}, 0, syscall.EMFILE, 1},
	} {
		tries, told := 0, 0
		err := Retry(t.Context(), c.limit, func() error { tries++; return c.errs[tries-1] }, func(error, time.Duration) { told++ })
		if !errors.Is(err, c.want) || tries != c.tries || told != tries-1 {
			t.Errorf("%s: %v after %d attempts, told %d times", name, err, tries, told)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := Retry(ctx, time.Hour, func() error { return syscall.EMFILE }, func(error, time.Duration) { cancel() })
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("cancelled: %v", err)
	}
	// Nothing is tried again, nor said, once it has ended.
	err = Retry(ctx, time.Hour, func() error { return syscall.EMFILE }, func(error, time.Duration) { t.Error("again") })
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("ended before: %v", err)
	}
}
