package bench

// Who takes part in what. Each call makes contestants of its own.

// proxyarpds are the engines of the program under test.
func (r *run) proxyarpds() (all []contestant) {
	for _, e := range r.Engines {
		all = append(all, &daemon{engine: e, args: r.Args})
	}
	return all
}

func (r *run) customs() (all []contestant) {
	for _, c := range r.Commands {
		all = append(all, &custom{label: c.Name, line: c.Line})
	}
	return all
}

// forwarders are all who forward.
func (r *run) forwarders() []contestant {
	if r.Between != nil {
		return append([]contestant{asFound{}}, r.customs()...)
	}
	return append(append([]contestant{&kernel{}, &kernelRPS{}}, r.proxyarpds()...), r.customs()...)
}

// measured are all who forward, and the generator alone.
func (r *run) measured() []contestant {
	if r.Between != nil {
		return r.forwarders()
	}
	return append(r.forwarders(), &dropper{})
}

// answerers are all who answer ARP; packet steering is no matter there.
func (r *run) answerers(alsoDelayed bool) []contestant {
	if r.Between != nil {
		return r.forwarders()
	}
	all := []contestant{&kernel{}}
	if alsoDelayed && r.Family != familyIPv6 { // proxy_delay is not asked about addresses of its own
		all = append(all, &kernel{delayed: true})
	}
	return append(append(all, r.proxyarpds()...), r.customs()...)
}

// oneHost and twoHosts are the topologies; between found namespaces there is what there is.
var (
	oneHost  = []int{0}
	twoHosts = []int{0, 1}
)

func (r *run) topologies() [][]int {
	if r.Between != nil {
		return [][]int{oneHost}
	}
	return [][]int{oneHost, twoHosts}
}

// where names the topology in a row.
func (r *run) where(hosts []int) string {
	switch {
	case r.Between != nil:
		return "as found"
	case len(hosts) == 1:
		return "one host"
	}
	return "two hosts"
}
