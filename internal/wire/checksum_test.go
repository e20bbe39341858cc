package wire_test

import (
	"fmt"
	"testing"

	"proxyarpd/internal/wire"
)

// BenchmarkSum is for datagrams of 18 bytes of IPv4 and IPv6, with their addresses, and for
// one that fills an Ethernet frame.
func BenchmarkSum(b *testing.B) {
	for _, n := range []int{34, 58, 1488} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i * 7)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			sum := uint32(0)
			for b.Loop() {
				sum = wire.Sum(data, sum&0xffff)
			}
		})
	}
}
