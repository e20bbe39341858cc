package capture

import (
	"fmt"
	"strconv"
	"strings"
)

// IfindexText is what the description of an interface in a capture begins with.
func IfindexText(ifindex int32) string { return fmt.Sprintf("ifindex %d", ifindex) }

// ParseIfindex reads what IfindexText wrote; 0 if it is something else.
func ParseIfindex(s string) int {
	number, ours := strings.CutPrefix(s, "ifindex ")
	n, err := strconv.ParseUint(number, 10, 31)
	if !ours || err != nil {
		return 0
	}
	return int(n)
}
