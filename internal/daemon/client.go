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

// answerPatience is how long an answer may take beyond what the daemon was asked to wait.
const answerPatience = 10 * time.Second

// Query asks the daemon behind the control socket at path for its status. With
// wait > 0 it waits that long for the daemon to appear and to be ready; a
// status that is not ready is returned all the same.
func Query(ctx context.Context, path string, wait time.Duration) (*Status, error) {
	deadline := time.Now().Add(wait)
	var rep statusReply
	err := ask(ctx, path, deadline, func(left time.Duration) any { return statusRequest{Op: "status", Wait: left} }, &rep, maxStatus)
	if err != nil {
		return nil, err
	}
	if rep.Error != "" || rep.Status == nil {
		return nil, fmt.Errorf("%s: %s", path, cmp.Or(rep.Error, "the answer is no status"))
	}
	return rep.Status, nil
}

// ask puts a question to the daemon behind the control socket at path, and waits
// for it to appear until the deadline. The question is told how much of that is left.
func ask(ctx context.Context, path string, deadline time.Time, question func(left time.Duration) any, reply any, most int) error {
	conn, err := client.Dial(ctx, path, deadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	left := max(time.Until(deadline), 0)
	_ = conn.SetDeadline(time.Now().Add(left + answerPatience))
	_, err = client.Ask(conn, path, question(left), reply, most)
	return err
}
