package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"proxyarpd/internal/lab"
)

const tcpHow = "iperf3, one TCP stream or several: what the server received a second (end.sum_received)."

// tcp: iperf3 with one stream and four, on one host and across two.
func (r *run) tcp() (steps []*step) {
	seconds, streams := 3, []int{1, 4}
	topologies := r.topologies()
	if r.Quick {
		seconds, streams, topologies = 1, streams[:1], topologies[:1]
	}
	for _, hosts := range topologies {
		for _, n := range streams {
			what := fmt.Sprintf("TCP, %s, %s", count(n, "stream"), r.where(hosts))
			params := map[string]float64{"streams": float64(n), "hosts": float64(len(hosts))}
			steps = append(steps, &step{
				figures: []Figure{{Work: what, Kind: "tcp", Unit: "Gbit/s", Params: params},
					{Work: what + ", retransmits", Kind: "tcp-retransmits", Unit: "segments", Params: params}},
				contestants: r.forwarders(), hosts: hosts, pairs: pairs(1, hosts), turn: time.Duration(seconds)*time.Second + 200*time.Millisecond,
				measure: func(b *bed, _ contestant) ([]Value, error) {
					bits, again, err := r.iperf(b, b.sender(0), b.receiver(hosts), n, seconds)
					return []Value{{X: bits / 1e9}, {Figure: 1, X: again}}, err
				},
			})
		}
	}
	return steps
}

// iperfPort is not iperf3's own, on which somebody may listen between namespaces that were found.
const iperfPort = "52017"

func (r *run) iperf(b *bed, from, to lab.Pod, streams, seconds int) (bits, retransmits float64, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Duration(seconds+10)*time.Second)
	defer cancel()
	addr := to.Addr.Addr().String()
	server := b.Command(ctx, to.Node, "iperf3", "-s", "-1", "-p", iperfPort, "-B", addr, "--forceflush")
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
	listening := false
	for !listening && lines.Scan() {
		listening = strings.Contains(lines.Text(), "Server listening")
	}
	if !listening {
		return 0, 0, errors.New("bench: iperf3 -s does not listen")
	}
	go io.Copy(io.Discard, out)
	text, err := b.Command(ctx, from.Node, "iperf3", "-c", addr, "-p", iperfPort, "-B", from.Addr.Addr().String(), "-J", "-t", strconv.Itoa(seconds), "-P", strconv.Itoa(streams)).Output()
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
