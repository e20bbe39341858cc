package daemon

import (
	"context"
	"errors"
	"testing"
)

// TestRunner: the part returns and runs again and ends with its life or by an error.
func TestRunner(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	r := &runner{life: life, began: make(chan struct{})}
	runs, failed := make(chan struct{}), make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- r.run(func(ctx context.Context) error {
			runs <- struct{}{}
			<-ctx.Done()
			return nil
		})
	}()
	for range 3 {
		<-runs
		r.halt()
		select {
		case <-runs:
			t.Fatal("it runs though it is halted")
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		default:
		}
		r.resume()
	}
	<-runs
	r.halt()
	end()
	if err := <-ended; err != nil {
		t.Errorf("life has ended: %v", err)
	}

	r = &runner{life: t.Context(), began: make(chan struct{})}
	failed <- errors.ErrUnsupported
	go func() {
		ended <- r.run(func(context.Context) error { return <-failed })
	}()
	if err := <-ended; !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the part has failed: %v", err)
	}
}
