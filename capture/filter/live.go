package filter

// Live is an expression for the frames of packet sockets, whatever their link type. An expression that makes no sense
// for a link type selects none of its frames.
type Live struct {
	ethernet, raw       *Filter
	ethernetErr, rawErr error
}

// CompileLive compiles an expression for each link type that interfaces have. It is an error if it makes sense for
// none of them; see [Live.Err] for one of them alone.
func CompileLive(expr string) (*Live, error) {
	l := &Live{}
	l.ethernet, l.ethernetErr = CompileSocket(expr, Ethernet)
	l.raw, l.rawErr = CompileSocket(expr, Raw)
	if l.ethernetErr != nil && l.rawErr != nil {
		return nil, l.ethernetErr
	}
	return l, nil
}

// Err says why the expression selects no frame of a link type; nil if it can select some.
func (l *Live) Err(link LinkType) error {
	if link == Ethernet {
		return l.ethernetErr
	}
	return l.rawErr
}

// Match reports whether the expression selects a frame; see [Filter.MatchMeta].
func (l *Live) Match(link LinkType, data []byte, wireLen int, meta Meta) bool {
	f := l.Filter(link)
	return f != nil && f.MatchMeta(data, wireLen, meta)
}

// Filter is that of a link type, nil if it selects none of its frames.
func (l *Live) Filter(link LinkType) *Filter {
	if link == Ethernet {
		return l.ethernet
	}
	return l.raw
}
