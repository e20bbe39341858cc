package metrics

import (
	"bytes"
	"strconv"
	"strings"

	"proxyarpd/internal/status"
)

// ContentType is that of Prometheus's text format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// page is a page in Prometheus's text format. The samples of a family stand
// together, in the order in which families were first used.
type page struct {
	order []*family
	text  map[*family]*bytes.Buffer
}

func newPage() *page { return &page{text: map[*family]*bytes.Buffer{}} }

// of gives the lines of a family, with its head.
func (p *page) of(f *family, typ string) *bytes.Buffer {
	b := p.text[f]
	if b == nil {
		b = new(bytes.Buffer)
		b.WriteString("# HELP " + f.name + " " + helpEscaper.Replace(f.help) + "\n# TYPE " + f.name + " " + typ + "\n")
		p.text[f], p.order = b, append(p.order, f)
	}
	return b
}

func (p *page) bytes() []byte {
	var all bytes.Buffer
	for _, f := range p.order {
		all.Write(p.text[f].Bytes())
	}
	return all.Bytes()
}

var (
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	valueEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// sample writes a line; more are a further label and its value.
func sample(b *bytes.Buffer, name string, f *family, values []string, value string, more ...string) {
	b.WriteString(name)
	sep := "{"
	label := func(name, value string) {
		b.WriteString(sep + name + `="` + valueEscaper.Replace(strings.ToValidUTF8(value, "\ufffd")) + `"`)
		sep = ","
	}
	for i, v := range values {
		label(f.labels[i], v)
	}
	if len(more) == 2 {
		label(more[0], more[1])
	}
	if sep == "," {
		b.WriteByte('}')
	}
	b.WriteString(" " + value + "\n")
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (p *page) gauge(f *family, v float64, labels ...string) {
	sample(p.of(f, "gauge"), f.name, f, labels, float(v))
}

func (p *page) counter(f *family, n uint64, labels ...string) {
	sample(p.of(f, "counter"), f.name, f, labels, strconv.FormatUint(n, 10))
}

// seconds writes a counter of time.
func (p *page) seconds(f *family, v float64) { sample(p.of(f, "counter"), f.name, f, nil, float(v)) }

// histogram writes classic buckets, which count all below their bound.
func (p *page) histogram(f *family, h *status.Histogram) {
	b := p.of(f, "histogram")
	total := uint64(0)
	for i, n := range h.Counts {
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = float(h.Bounds[i])
		}
		total += n
		sample(b, f.name+"_bucket", f, nil, strconv.FormatUint(total, 10), "le", bound)
	}
	sample(b, f.name+"_sum", f, nil, float(h.Sum))
	sample(b, f.name+"_count", f, nil, strconv.FormatUint(total, 10))
}

// What Prometheus's own clients say of a process, by the same names.
var (
	goroutines = &family{"go_goroutines", "Number of goroutines that currently exist.", nil}
	cpuSeconds = &family{"process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", nil}
	resident   = &family{"process_resident_memory_bytes", "Resident memory size in bytes.", nil}
	openFDs    = &family{"process_open_fds", "Number of open file descriptors.", nil}
	startTime  = &family{"process_start_time_seconds", "Start time of the process since unix epoch in seconds.", nil}
)
