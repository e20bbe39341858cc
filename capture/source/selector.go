package source

import (
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// selector applies an expression to what a file has; each link type has a
// filter of its own. An expression that makes no sense for a link type selects
// none of its packets.
type selector struct {
	expression string
	options    filter.Options
	filters    map[filter.LinkType]*filter.Filter // nil: selects none
}

// FilterType is an interface's link type in the terms of filters.
func FilterType(i *pcapfile.Interface) filter.LinkType {
	if i.BigEndian {
		return filter.NullBig
	}
	return filter.LinkType(i.LinkType)
}

// check returns an error if the expression makes sense for none of a file's
// interfaces.
func (s *selector) check(first *pcapfile.Interface, all []*pcapfile.Interface) error {
	_, err := s.of(FilterType(first))
	for _, i := range all {
		if f, _ := s.of(FilterType(i)); f != nil {
			return nil
		}
	}
	return err
}

func (s *selector) match(p *pcapfile.Packet) bool {
	f, _ := s.of(FilterType(p.Interface))
	return f != nil && f.Match(p.Data, int(p.Len))
}

func (s *selector) of(t filter.LinkType) (*filter.Filter, error) {
	if f, known := s.filters[t]; known {
		return f, nil
	}
	f, err := s.options.Compile(s.expression, t)
	if s.filters == nil {
		s.filters = map[filter.LinkType]*filter.Filter{}
	}
	s.filters[t] = f
	return f, err
}
