//go:build race

package nstest

// Race reports whether the race detector is on.
const Race = true
