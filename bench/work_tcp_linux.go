package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"proxyarpd/internal/lab"
)

const tcpHow = "tcp: iperf3, what the server received a second (end.sum_received)."

// tcp: iperf3 with one stream and four, on one host and across two.
func (r *run) tcp() error {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return fmt.Errorf("iperf3 is not installed: %w", err)
	}
	b, err := r.bed()
	if err != nil {
		return err
	}
	seconds := 3
	if r.Quick {
		seconds = 1
	}
	for _, hosts := range [][]int{{0}, {0, 1}} {
		for _, streams := range []int{1, 4} {
			from, to := b.pod(0, 0), b.pod(hosts[len(hosts)-1], 2)
			what := fmt.Sprintf("TCP, %d stream%s, %s", streams, plural(streams), []string{"one host", "two hosts"}[len(hosts)-1])
			err := r.take(b, turns{
				work: what, how: tcpHow, hosts: hosts, pairs: [][2]lab.Pod{{from, to}},
				contestants: []contestant{&kernel{}, r.proxyarpd()},
				measure: func(contestant) ([]Value, error) {
					bits, again, err := r.iperf(b, from, to, streams, seconds)
					if err != nil {
						return nil, err
					}
					return []Value{{Work: what, Unit: "Gbit/s", X: bits / 1e9},
						{Work: what + ", retransmits", Unit: "segments", X: again}}, nil
				},
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) iperf(b *bed, from, to lab.Pod, streams, seconds int) (bits, retransmits float64, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Duration(seconds+10)*time.Second)
	defer cancel()
	addr := to.Addr.Addr().String()
	server := b.Command(ctx, to.Node, "iperf3", "-s", "-1", "-B", addr, "--forceflush")
	out, err := server.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := server.Start(); err != nil {
		return 0, 0, fmt.Errorf("bench: iperf3 -s: %w", err)
	}
	defer server.Wait()
	defer cancel()
	lines := bufio.NewScanner(out)
	for {
		if !lines.Scan() {
			return 0, 0, errors.New("bench: iperf3 -s does not listen")
		}
		if strings.Contains(lines.Text(), "Server listening") {
			break
		}
	}
	go io.Copy(io.Discard, out)
	text, err := b.Command(ctx, from.Node, "iperf3", "-c", addr, "-J", "-t", strconv.Itoa(seconds), "-P", strconv.Itoa(streams)).Output()
	var result struct {
		Error string
		End   struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sent struct {
				Retransmits float64 `json:"retransmits"`
			} `json:"sum_sent"`
		}
	}
	if jsonErr := json.Unmarshal(text, &result); err != nil || jsonErr != nil || result.Error != "" {
		return 0, 0, fmt.Errorf("bench: iperf3 -c %s: %s: %w", addr, result.Error, errors.Join(err, jsonErr))
	}
	return result.End.Received.Bits, result.End.Sent.Retransmits, nil
}
