//go:build race

package arpd

const raceEnabled = true
