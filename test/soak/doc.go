// Package soak has a daemon serve for long while pods come and go, links flap,
// neighbours change, its configuration is reloaded, and it is killed. Each
// packet that does not arrive must be explained, and the counters must add up. `make
// soak` runs it.
package soak
