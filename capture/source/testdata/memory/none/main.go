// Command none says how much memory it takes: see TestMemory of capture/source.
package main

import (
	"bytes"
	"net"
	"os"
	"runtime/debug"
)

// dial keeps what every program with a network has: gopacket imports it, too.
var dial = net.Dial

func main() {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil || dial == nil {
		os.Exit(1)
	}
	for line := range bytes.Lines(status) {
		if bytes.HasPrefix(line, []byte("Rss")) || bytes.HasPrefix(line, []byte("VmRSS")) {
			os.Stdout.Write(line)
		}
	}
}
