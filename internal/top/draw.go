package top

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"proxyarpd/internal/printable"
)

// screen is what is to be shown of a view, and how.
type screen struct {
	*view
	width, height int
	by            order
	selected      int // of rows, -1: none
	first         int // of rows, that is shown
	detail        int // index of the interface whose detail is shown; 0: none
	offset        int // lines of that that are passed over
	help, paused  bool
	every         time.Duration
	trouble       string // why there is nothing newer
}

// style is how a line looks.
type style int

const (
	plain style = iota
	bold
	reverse
)

type line struct {
	text  string
	style style
}

// fits cuts a line to the screen's width.
func (s *screen) fits(text string) string {
	if runes := []rune(text); len(runes) > s.width {
		return string(runes[:max(s.width, 0)])
	}
	return text
}

// lines are the screen, at most its height.
func (s *screen) lines() []line {
	all := s.head()
	switch {
	case s.help:
		all = append(all, helpLines...)
	case s.view == nil:
	case s.detail != 0:
		detail := s.detailLines()
		s.offset = min(s.offset, len(detail)-1)
		all = append(all, detail[s.offset:]...)
	default:
		all = append(all, s.table(s.height-len(all)-1)...)
		all = append(all, line{s.footer(), plain})
	}
	if len(all) > s.height {
		all = all[:max(s.height, 0)]
	}
	for i := range all {
		all[i].text = s.fits(printable.String(all[i].text))
	}
	return all
}

func (s *screen) head() []line {
	if s.view == nil {
		return []line{{"proxyarpd top", bold}, {s.trouble, reverse}}
	}
	now := s.now
	state := "ready"
	if !now.Ready {
		state = "not ready: " + now.NotReady
	}
	all := []line{{fmt.Sprintf("proxyarpd %s  %s  up %s  %s", now.Version, now.Engine, (time.Duration(now.Uptime) * time.Second).String(), state), bold}}
	switch {
	case s.trouble != "":
		all = append(all, line{s.trouble, reverse})
	case !s.rated:
		all = append(all, line{"totals since the start; rates with the next look", plain})
	default:
		all = append(all, line{fmt.Sprintf("in %s/s  out %s/s  %sbit/s  drops %s/s  waiting %d  ring %d  routes %d", number(s.in.rate), number(s.out.rate),
			number(8*s.bytes.rate), number(s.lost.rate), now.Forward.Waiting, now.Forward.InRing, now.Forward.Routes), plain})
	}
	all = append(all, line{counterLine("verdicts/s", s.total), plain}, line{counterLine("drops/s", s.drops), plain})
	if len(s.arp) > 0 {
		all = append(all, line{counterLine("arp/s", s.arp), plain})
	}
	if len(s.nd) > 0 {
		all = append(all, line{counterLine("nd/s", s.nd), plain})
	}
	return append(all, line{})
}

// counterLine has counters on one line, the fastest first.
func counterLine(title string, all []counter) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%-10s", title)
	for _, c := range all {
		fmt.Fprintf(b, "  %s %s", c.name, number(c.rate))
	}
	return b.String()
}

const tableFormat = "%-15.15s %-8s %-4s %6s %6s %6s %8s %5s %5s %6s"

// table has the interfaces, as many as there is room for.
func (s *screen) table(room int) []line {
	head := fmt.Sprintf(tableFormat, "INTERFACE", "ROLE", "IP", "IN/s", "FORW/s", "DROP/s", "KERNEL/s", "ARP/s", "ND/s", "DROPS")
	all := []line{{head, bold}}
	for i := s.first; i < len(s.rows) && len(all) < room; i++ {
		r := &s.rows[i]
		l := line{text: fmt.Sprintf(tableFormat, printable.String(r.Name), r.role, r.serves(), number(r.in.rate), number(r.forwarded.rate), number(r.dropped.rate), number(r.left.rate),
			number(r.arp.rate), number(r.nd.rate), number(float64(r.dropped.total)))}
		if r.Error != "" || r.ND().Why != "" && strings.Contains(r.Serves(), "6") { // elsewhere the column IP says so
			l.text += " !"
		}
		if i == s.selected {
			l.style = reverse
		}
		all = append(all, l)
	}
	return all
}

func (r *row) serves() string {
	if !r.Up {
		return "down"
	}
	return cmp.Or(r.Serves(), "-")
}

func (s *screen) footer() string {
	paused := ""
	if s.paused {
		paused = "  PAUSED"
	}
	return fmt.Sprintf("%d interfaces by %s, every %s%s   q quit  h help  enter detail  s sort", len(s.rows), orderNames[s.by], s.every, paused)
}

// detailLines are all that is known of one interface.
func (s *screen) detailLines() []line {
	for i := range s.rows {
		if s.rows[i].Index == s.detail {
			return s.rows[i].detail()
		}
	}
	return []line{{"the interface has gone; esc goes back", reverse}}
}

func (r *row) detail() []line {
	state := "down"
	if r.Up {
		state = "up"
	}
	all := []line{{fmt.Sprintf("%s  index %d  %s  %s  mac %s", r.Name, r.Index, r.role, state, r.MAC), bold}}
	if a := r.AnswersWith(); a != "" {
		all = append(all, line{"answers " + a, plain})
	}
	if s := r.Serves(); s != "" {
		all = append(all, line{"serves IPv" + strings.ReplaceAll(s, " ", " and IPv"), plain})
	}
	if r.Error != "" {
		all = append(all, line{r.Error, reverse})
	}
	if why := r.ND().Why; why != "" {
		all = append(all, line{"IPv6: " + why, reverse})
	}
	for _, part := range []struct {
		title string
		all   []counter
	}{{"FRAMES", r.frames}, {"PACKETS", r.verdicts}, {"DROPS", r.drops}, {"ARP", r.arpVerdicts}, {"NEIGHBOUR DISCOVERY", r.ndVerdicts},
		{"ANNOUNCED", r.announced}, {"CONFLICTS", r.conflicts}} {
		if len(part.all) == 0 {
			continue
		}
		all = append(all, line{}, line{fmt.Sprintf("%-30s %12s %12s", part.title, "/s", "TOTAL"), bold})
		for _, c := range part.all {
			all = append(all, line{fmt.Sprintf("%-30s %12s %12d", c.name, number(c.rate), c.total), plain})
		}
	}
	return all
}

var helpLines = []line{
	{"up, down, k, j, page up, page down   choose an interface; in its detail: scroll", plain},
	{"enter                                its detail; esc, backspace or left: back", plain},
	{"r, d, n                              sort by rate, drops, name; s: the next one", plain},
	{"+, -                                 look more seldom, more often", plain},
	{"space                                pause", plain},
	{"q, ^C                                quit; ^Z: stop", plain},
	{"", plain},
	{"IP: versions that are served; IN/s: frames seen; FORW/s: packets forwarded;", plain},
	{"DROP/s: dropped; KERNEL/s: left to the kernel; ARP/s: requests; ND/s: neighbour", plain},
	{"solicitations; DROPS: since the start; !: something is wrong, see its detail.", plain},
	{"Why packets are dropped: proxyarpd capture --drops, and --last-drops.", plain},
	{"Any key goes back.", plain},
}

// number is short: 0, 0.5, 12, 999, 12.3k, 4.56M.
func number(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 9.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	unit := 0
	for f >= 999.5 && unit < 4 {
		f /= 1000
		unit++
	}
	decimals := 0
	if unit > 0 && f < 99.95 {
		decimals = 1
	}
	return strconv.FormatFloat(f, 'f', decimals, 64) + [...]string{"", "k", "M", "G", "T"}[unit]
}
