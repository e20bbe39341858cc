//go:build !race

package arpd

const raceEnabled = false
