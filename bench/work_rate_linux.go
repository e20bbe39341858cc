package bench

import (
	"fmt"

	"proxyarpd/internal/lab"
)

const rateHow = "UDP in 64-byte frames (with FCS), built beforehand, from one AF_PACKET socket a sender (sendmmsg of 64, " +
	"QDISC_BYPASS), senders in pods of their own, each pinned to a CPU, as fast as they can; flows differ by source port. Counted: " +
	"datagrams that reach the receiving pod's UDP socket, whole and with a right checksum, by a socket filter there, in the time " +
	"after the warm-up; the segments of a super-packet one by one. 'generator' counts frames sent while an eBPF program drops them " +
	"at the host's tc ingress: the ceiling. LOST, DUP and REORD (RFC 4737, within a flow) are of all datagrams, at full load."

// rate: the maximum forwarding rate (RFC 2285, 3.6.2).
func (r *run) rate() (steps []*step) {
	type kind struct {
		senders, flows int
		hosts          []int
	}
	all := maxSenders()
	kinds := []kind{{1, 1, oneHost}, {1, 16, oneHost}, {1, 1000, oneHost}}
	if all > 1 {
		kinds = append(kinds, kind{all, 1, oneHost}, kind{all, 16, oneHost}, kind{all, 1000, oneHost})
	}
	if r.Between == nil {
		kinds = append(kinds, kind{1, 16, twoHosts})
	}
	if r.Quick {
		kinds = []kind{{1, 16, oneHost}, {all, 16, oneHost}}
	}
	for _, k := range kinds {
		f := Figure{Kind: "rate", Unit: "kpps",
			Work:   fmt.Sprintf("rate, %d B, %s, %s, %s", r.small(), count(k.senders, "sender"), count(k.flows, "flow"), r.where(k.hosts)),
			Params: map[string]float64{"frame": float64(r.small()), "senders": float64(k.senders), "flows": float64(k.flows), "hosts": float64(len(k.hosts))}}
		steps = append(steps, &step{
			figures: []Figure{f}, contestants: r.measured(), hosts: k.hosts, turn: warmUp(r.Trial) + r.Trial,
			pairs: pairs(k.senders, k.hosts),
			measure: func(b *bed, c contestant) ([]Value, error) {
				l := load{senders: b.senders(k.senders), receiver: b.receiver(k.hosts), flows: k.flows, sizes: []int{r.small()}, duration: r.Trial}
				o, err := r.trial(b, c, l)
				if err != nil {
					return nil, err
				}
				return []Value{o.rate(c, l)}, nil
			},
		})
	}
	return steps
}

// rate is a trial's outcome as a figure in kpps.
func (o outcome) rate(c contestant, l load) Value {
	if _, alone := c.(*dropper); alone {
		return Value{X: o.offered / 1e3, Note: o.note(l)}
	}
	return Value{X: o.received / 1e3, Note: o.note(l), Offered: o.offered / 1e3, Tally: &o.tally}
}

// pairs are the senders with the receiver.
func pairs(senders int, hosts []int) func(*bed) [][2]lab.Pod {
	return func(b *bed) (all [][2]lab.Pod) {
		for _, s := range b.senders(senders) {
			all = append(all, [2]lab.Pod{s, b.receiver(hosts)})
		}
		return all
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
