package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestNewPods has each new pod reached, and reach others, with its first packet.
func TestNewPods(t *testing.T) {
	labtest.Need(t, "ping")
	for _, form := range lab.Forms() {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			w := start(t, lab.Spec{Form: form})
			old := pods(w.Lab, 1)[0]
			for i := range 20 {
				p, err := w.AddPod(t.Context(), 0, lab.PodOptions{})
				if err != nil {
					t.Fatal(err)
				}
				from, to := p, old
				if i%2 == 1 {
					from, to = old, p
				}
				if ttl := ping(t, w.Lab, from.Node, ip(to)); ttl != 62 {
					t.Errorf("%s to %s: ttl %d, want 62", from.Name, to.Name, ttl)
				}
			}
			// To the host itself when its MAC is the one that was answered.
			w.d[0].AwaitReady(t)
			for _, p := range pods(w.Lab, 0) {
				wantTTL(t, w.Lab, p.Node, host0IP, 64)
			}
			if s := statusOf(t, w.d[0]); len(s.Workloads) != len(pods(w.Lab, 0)) {
				t.Errorf("%d workloads of %d", len(s.Workloads), len(pods(w.Lab, 0)))
			}
		})
	}
}

// TestInterfaceChanges does to a pod's interface what others do while the
// program runs, and expects the next packet to pass.
func TestInterfaceChanges(t *testing.T) {
	labtest.Need(t, "ping", "ip", "arping")
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep-mac=%v", keep), func(t *testing.T) {
			t.Parallel()
			testInterfaceChanges(t, keep)
		})
	}
}

func testInterfaceChanges(t *testing.T, keep bool) {
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, fmt.Sprintf("--keep-mac=%v", keep))
	pod := pods(w.Lab, 0)[0]
	alive := func(what string) {
		t.Helper()
		t.Log(what)
		wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
		wantTTL(t, w.Lab, "ns1", "10.20.1.2", 62)
		wantTTL(t, w.Lab, "ns0", host0IP, 64)
		wantTTL(t, w.Lab, "host0", "10.20.1.2", 64)
	}
	workload := func(name string) *port {
		s := statusOf(t, w.d[0])
		s.Uplinks = nil
		return s.port(name)
	}
	alive("as it was made")

	const other = "02:00:5e:00:53:02"
	there := pods(w.Lab, 1)[0]
	r, sender := labtest.Receive(t, w.Lab, there, 1), labtest.DialNumbered(t, w.Lab, pod.Node, there, 1)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := w.d[0].Cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP) // it hears of it late, as where it gets no CPU
	run(t, w.Lab, "host0", "ip link set veth0 address "+other)
	sender.Send(1, nil)
	signal(syscall.SIGCONT)
	sender.SendFence()
	if lost, doubled := r.Result(); lost+doubled > 0 {
		t.Errorf("of one datagram between another's change of the MAC and the daemon's %d are lost, %d doubled", lost, doubled)
	}
	alive("with a MAC that somebody set")
	found := other // what there would be without us
	run(t, w.Lab, "host0", "ip link set veth0 address "+answerMAC)
	alive("with the answered MAC that somebody set")
	if keep {
		found = answerMAC
	}

	run(t, w.Lab, "host0", "ip link set veth0 down")
	await(t, "veth0 is seen to be down", func() bool { return !workload("veth0").Up })
	run(t, w.Lab, "host0", "ip link set veth0 up")
	run(t, w.Lab, "host0", "ip route add 10.20.1.2 dev veth0 scope link")
	await(t, "the pod's end can send", func() bool { return strings.Contains(run(t, w.Lab, "ns0", "ip -br link show eth0"), " UP ") })
	alive("down and up")

	rename(t, w.Lab, "veth0", "vethrenamed")
	alive("renamed within the glob")
	await(t, "status tells the new name", func() bool { return workload("vethrenamed") != nil })
	rename(t, w.Lab, "vethrenamed", "other0")
	// It may now be an uplink: a route in use has it.
	await(t, "it is no workload any more", func() bool { return workload("vethrenamed") == nil && workload("other0") == nil })
	if _, replies, _ := arping(t, w.Lab, "ns0", "-c1 -w1 "+gateway); replies != 0 {
		t.Error("answered on an interface out of the glob")
	}
	rename(t, w.Lab, "other0", "veth0")
	await(t, "it is a workload again", func() bool { p := workload("veth0"); return p != nil && p.Forwards })
	alive("renamed into the glob")

	for i := range 3 { // the same name, another interface
		second := pods(w.Lab, 0)[1]
		if err := w.DelPod(second.Name); err != nil {
			t.Fatal(err)
		}
		second, err := w.AddPod(t.Context(), 0, lab.PodOptions{Iface: second.Iface})
		if err != nil {
			t.Fatal(err)
		}
		wantTTL(t, w.Lab, "ns1", ip(second), 62)
		wantTTL(t, w.Lab, second.Node, ip(pod), 63)
		if p := workload(second.Iface); p == nil || p.Index != second.Index {
			t.Errorf("time %d: %s: %+v, want index %d", i, second.Iface, p, second.Index)
		}
	}
	alive("beside a second pod that was made anew")

	rename(t, w.Lab, "veth0", "last0")
	w.d[0].Stop(t)
	if got := linkMAC(t, w.Lab, "host0", "last0"); got != found {
		t.Errorf("what was veth0: MAC %s after the daemon's end, want %s", got, found)
	}
}

// rename gives an interface of host0 another name. Kernels before 6.2 want it
// down for that, and lose its routes.
func rename(t *testing.T, l *lab.Lab, from, to string) {
	t.Helper()
	if out, code := try(t, l, "host0", "ip link set "+from+" name "+to); code != 0 {
		if !strings.Contains(out, "busy") {
			t.Fatal(out)
		}
		run(t, l, "host0", "ip link set "+from+" down")
		run(t, l, "host0", "ip link set "+from+" name "+to)
		run(t, l, "host0", "ip link set "+to+" up")
		run(t, l, "host0", "ip route add 10.20.1.2 dev "+to+" scope link")
	}
}

// TestAddressReused gives a pod's address to the next pod, behind another
// interface or one of the same name and with another MAC each time, while
// somebody goes on sending to it. The first ping reaches the new one.
func TestAddressReused(t *testing.T) {
	labtest.Need(t, "ping")
	for _, form := range []lab.Form{lab.FormSlash32, lab.FormCalico} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			w := start(t, lab.Spec{Form: form, PodsPerHost: 2})
			asker, other := pods(w.Lab, 1)[0], pods(w.Lab, 1)[1]
			sender := listen(t, w.Lab, other.Node, "eth0", unix.ETH_P_IP)
			var addr string
			macs := map[string]bool{}
			for i := range 12 {
				var o lab.PodOptions
				if i%2 == 1 {
					o.Iface = map[lab.Form]string{lab.FormSlash32: "veth-b", lab.FormCalico: "cali-b"}[form]
				}
				p, err := w.AddPod(t.Context(), 0, o)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					addr = ip(p)
					stop := make(chan struct{})
					ended := make(chan struct{})
					frame := datagram(mac(t, answerMAC), sender.mac, ip(other), addr, 1, 18)
					go func() {
						defer close(ended)
						for tick := time.NewTicker(10 * time.Millisecond); ; {
							select {
							case <-stop:
								return
							case <-tick.C:
								sender.send(frame)
							}
						}
					}()
					defer func() { close(stop); <-ended }()
				}
				if ip(p) != addr || macs[p.PeerMAC] {
					t.Fatalf("pod %s has %s and %s", p.Name, ip(p), p.PeerMAC)
				}
				macs[p.PeerMAC] = true
				// The kernel's first question may have come too early for the pod's
				// end to send the answer: its queueing discipline was noop still.
				if ttl := ping(t, w.Lab, asker.Node, addr, "-W3"); ttl != 62 {
					t.Errorf("ttl %d", ttl)
				}
				if err := w.DelPod(p.Name); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
