package differential

// difference is one that is known, and may stay.
type difference struct {
	name   string
	reason string
	is     func(w *world, r *result) bool
}

// known is what docs/DIFFERENCES.md lists. Everything else fails the test.
var known = []difference{}

func excused(w *world, r *result) (name string, ok bool) {
	for _, d := range known {
		if d.is(w, r) {
			return d.name, true
		}
	}
	return "", false
}
