// Command proxyarpd-cni is a CNI plugin that wires pods for proxyarpd; see
// internal/cni and docs/CNI.md.
package main

import "proxyarpd/internal/cni"

// version is set by the linker.
var version = "unknown"

func main() { cni.Main(version) }
