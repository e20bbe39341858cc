package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"proxyarpd/internal/control"
	"proxyarpd/internal/control/client"
	"proxyarpd/internal/explain"
)

// explainRequest asks what becomes of a packet.
type explainRequest struct {
	Op       string            `json:"op"`
	Question *explain.Question `json:"question,omitempty"`
}

type explainReply struct {
	Error  string          `json:"error,omitempty"`
	Answer *explain.Answer `json:"answer,omitempty"`
}

func (d *Daemon) answerExplain(ctx context.Context, _ *control.Conn, request []byte) (any, error) {
	var req explainRequest
	if err := control.Decode(request, &req); err != nil {
		return nil, err
	}
	if req.Question == nil {
		return nil, errors.New("no question")
	}
	a, err := d.explainPacket(ctx, req.Question)
	if err != nil {
		return nil, err
	}
	return explainReply{Answer: a}, nil
}

// explainPacket answers by the tables of the daemon that runs.
func (d *Daemon) explainPacket(ctx context.Context, q *explain.Question) (*explain.Answer, error) {
	c := make(chan *explain.View, 1)
	if !d.owner.ask(ctx, func() { v := d.owner.view(); c <- v.Clone() }) {
		return nil, errors.New("the daemon is ending")
	}
	v := <-c
	v.From = "the daemon that runs"
	if err := v.Complete(q); err != nil {
		return nil, err
	}
	return v.Explain(*q, d.req), nil
}

// Explain answers a question: by the tables of the daemon that listens at the path
// of the control socket, where one does and the configuration is not of its own
// (what is nil), else by what a daemon with that configuration would see.
func Explain(ctx context.Context, path string, what *Config, q explain.Question) (*explain.Answer, error) {
	if what == nil {
		a, err := queryExplain(ctx, path, &q)
		if !client.Absent(err) {
			return a, err
		}
		cfg := Default()
		what = &cfg
	}
	v, req, err := Survey(ctx, *what)
	if err != nil {
		return nil, fmt.Errorf("look at the host: %w", err)
	}
	defer req.Close()
	if err := v.Complete(&q); err != nil {
		return nil, err
	}
	return v.Explain(q, req), nil
}

// maxExplanation bounds an answer, bytes.
const maxExplanation = 1 << 20

func queryExplain(ctx context.Context, path string, q *explain.Question) (*explain.Answer, error) {
	var rep explainReply
	question := explainRequest{Op: "explain", Question: q}
	if err := ask(ctx, path, time.Now(), func(time.Duration) any { return question }, &rep, maxExplanation); err != nil {
		return nil, err
	}
	if rep.Error != "" || rep.Answer == nil {
		return nil, fmt.Errorf("%s: %s", path, cmp.Or(rep.Error, "the answer explains nothing"))
	}
	return rep.Answer, nil
}
