package daemon

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"proxyarpd/internal/control/client"
)

// maxStatus bounds an answer, bytes: 4095 interfaces take some 4 MB.
const maxStatus = 32 << 20

// Query asks the daemon behind the control socket at path for its status. With
// wait > 0 it waits that long for the daemon to appear and to be ready; a
// status that is not ready is returned all the same.
func Query(ctx context.Context, path string, wait time.Duration) (*Status, error) {
	deadline := time.Now().Add(wait)
	conn, err := client.Dial(ctx, path, deadline)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	left := max(time.Until(deadline), 0)
	_ = conn.SetDeadline(time.Now().Add(left + 2*controlDeadline))
	var rep reply
	if _, err := client.Ask(conn, path, request{Op: "status", Wait: left}, &rep, maxStatus); err != nil {
		return nil, err
	}
	if rep.Error != "" || rep.Status == nil {
		return nil, fmt.Errorf("%s: %s", path, cmp.Or(rep.Error, "the answer is no status"))
	}
	return rep.Status, nil
}
