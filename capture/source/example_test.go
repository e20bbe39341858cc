package source_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"proxyarpd/capture/source"
)

// The paths that the examples use; TestMain makes what they name.
var control, captured string

// The packets that a daemon drops, and why.
func ExampleDial() {
	s, err := source.Dial(context.Background(), control, source.Options{Drops: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for {
		_, info, err := s.ZeroCopyReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Println(err)
			return
		}
		a := source.AncillaryOf(info)
		fmt.Println(a.Interface.Name, a.Verdict.Reason, a.Verdict.Out)
	}
	// Output:
	// cali1 NEIGH_FAILED ens1
	// cali2 IP_INHDR
}

// The same of a file that `proxyarpd capture -w` wrote, with gopacket's layers.
func ExampleOpenFile() {
	s, err := source.OpenFile(context.Background(), captured, source.Options{Drops: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	packets := gopacket.NewPacketSource(s, layers.LinkType(s.LinkType()))
	for p := range packets.Packets() {
		a := source.AncillaryOf(p.Metadata().CaptureInfo)
		fmt.Println(p.NetworkLayer().NetworkFlow(), a.Verdict.Reason)
	}
	if err := s.Err(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 10.0.0.1->10.0.0.3 NEIGH_FAILED
	// 10.0.0.1->10.0.0.4 IP_INHDR
}

func TestMain(m *testing.M) { os.Exit(withExamples(m.Run)) }
