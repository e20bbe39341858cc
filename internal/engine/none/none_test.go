package none

import (
	"context"
	"testing"

	"proxyarpd/internal/engine"
)

// TestNone: the engine ends when it is told, and moves nothing.
func TestNone(t *testing.T) {
	e := Open(&engine.Programs{})
	if e.Forwards() || e.Device().Index != 0 || e.Stats().PacketsIn != 0 {
		t.Error("it does something")
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- e.Run(ctx) }()
	select {
	case <-over:
		t.Fatal("it ends by itself")
	default:
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
