package lab

import (
	"fmt"
	"strings"
)

// Topology draws the lab with its real names and addresses.
func (l *Lab) Topology() string {
	const mostPods = 8
	nodes, pods := l.Nodes(), l.Pods()
	var columns [][]string
	for host := range l.spec.Hosts {
		box := fmt.Sprintf(" %s %s ", uplinkName, nodes[host].Addr)
		if l.spec.Hosts == 1 {
			box = fmt.Sprintf(" lo %s/32 ", nodes[host].Addr.Addr())
		}
		box6 := ""
		if a := nodes[host].Addr6; a.IsValid() {
			box6 = strings.Repeat(" ", strings.Index(box[1:], " ")+2) + a.String() + " "
			if l.spec.Hosts == 1 {
				box6 = "    " + a.Addr().String() + "/128 "
			}
		}
		width := max(len(box), len(box6))
		edge := "+" + strings.Repeat("-", width) + "+"
		lines := []string{"  " + nodes[host].Name, edge, fmt.Sprintf("|%-*s|", width, box)}
		if box6 != "" {
			lines = append(lines, fmt.Sprintf("|%-*s|", width, box6))
		}
		lines = append(lines, edge)
		shown, more := 0, 0
		for _, p := range pods {
			switch {
			case p.Host != host:
			case shown == mostPods:
				more++
			default:
				shown++
				ends := fmt.Sprintf("  +- %s --- %s %s ", p.Iface, p.Peer, p.Node)
				lines = append(lines, "  |", ends+p.Addr.String())
				if p.Addr6.IsValid() {
					lines = append(lines, fmt.Sprintf("  |%*s%s", len(ends)-3, "", p.Addr6))
				}
			}
		}
		if more > 0 {
			lines = append(lines, "  |", fmt.Sprintf("  +- and %d more", more))
		}
		columns = append(columns, lines)
	}
	return join(columns)
}

// join sets the columns beside each other, the third line of each as the wire.
func join(columns [][]string) string {
	rows, width := 0, 0
	for i, c := range columns {
		rows = max(rows, len(c))
		for _, line := range c {
			if i < len(columns)-1 {
				width = max(width, len(line)+4)
			}
		}
	}
	const wireRow = 2
	var b strings.Builder
	for row := range rows {
		line := ""
		for i, c := range columns {
			text := ""
			if row < len(c) {
				text = c[row]
			}
			line += text
			if i < len(columns)-1 {
				fill := " "
				if row == wireRow {
					fill = "-"
				}
				line += strings.Repeat(fill, width-len(text))
			}
		}
		b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
	}
	return b.String()
}
