package failure

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestCaptureEngineReloaded: a capture goes on while reloads have eBPF programs carry, and carry no more: each packet is
// in it once. The daemon goes on when it ends, and when another one begins.
func TestCaptureEngineReloaded(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	file := filepath.Join(t.TempDir(), "proxyarpd.yaml")
	write := func(engine string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("workload: ['veth*']\nengine: "+engine+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ebpf")
	p := labtest.Daemon(t, l, "host0", "--config", file)
	here := pods(l, 0)
	labtest.Warm(t, l, here[0].Node, ip(here[1]))
	to := filepath.Join(t.TempDir(), "x.pcapng")
	c := capturing(t, l, p, "-n", "-i", here[0].Iface, "-Q", "in", "-w", to, "udp")
	flow := labtest.StartFlow(t, l, here[0], here[1], 1)
	for _, engine := range []string{"af_packet", "ebpf", "af_packet", "ebpf"} {
		flow.Progress(100)
		write(engine)
		run(t, l, "host0", labtest.Binary(t)+" reload --control "+p.Control)
		capturing(t, l, p, "-n", "-c", "1", "-i", here[0].Iface, "udp").ended(t)
	}
	flow.Progress(100)
	sent, lost, doubled := flow.Stop()
	c.signal(syscall.SIGINT)
	if code, _, said := c.ended(t); code != 0 || talliesOf(t, said).dropped+talliesOf(t, said).lost > 0 {
		t.Errorf("exit %d: %s", code, said)
	}
	if lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
	seen := map[uint32]int{}
	eachIn(t, to, func(p *pcapfile.Packet) {
		packet := wire.IPv4(wire.Ethernet(p.Data).Payload())
		if packet.Protocol() == unix.IPPROTO_UDP {
			seen[binary.BigEndian.Uint32(packet[28:])]++
		}
	})
	wrong := 0
	for i := range sent {
		if seen[uint32(i)] != 1 {
			if wrong++; wrong <= 5 {
				t.Errorf("datagram %d is %d times in the file", i, seen[uint32(i)])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d are not in the file once", wrong, sent)
	}
	alive(t, p)
}
