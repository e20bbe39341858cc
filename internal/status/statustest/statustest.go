// Package statustest has a status for tests of what shows one. Tests import it.
package statustest

import (
	"reflect"

	"proxyarpd/internal/status"
)

// Filled is a status with a workload and an uplink, in which each counter has a number
// of its own, of seven digits, by its path, as .Workloads.IPv6.Defended. What counts by
// name has none.
func Filled() (*status.Status, map[string]uint64) {
	port := func(name string) []status.Interface {
		return []status.Interface{{Name: name, Index: 1, Answers: "ee:ee:ee:ee:ee:ee", IPv6: &status.IPv6{}, Egress: &status.EgressDrops{}}}
	}
	s := &status.Status{Engine: "ebpf", Ready: true, IPv6: true, Workloads: port("cali1"), Uplinks: port("ens192"), Forward: status.Forward{Egress: &status.EgressDrops{}}}
	s.Uplinks[0].Announced = &status.Announced{}
	s.ARP.Verdicts, s.ND.Verdicts = map[string]uint64{"answer": 1}, map[string]uint64{"answer": 1}
	numbers := map[string]uint64{}
	fill("", reflect.ValueOf(s).Elem(), numbers)
	return s, numbers
}

func fill(path string, v reflect.Value, numbers map[string]uint64) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(path, v.Elem(), numbers)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(path+"."+f.Name, v.Field(i), numbers)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(path, v.Index(i), numbers)
		}
	case reflect.Uint64:
		numbers[path] = 1000000 + 1000*uint64(len(numbers)) + 1
		v.SetUint(numbers[path])
	}
}
