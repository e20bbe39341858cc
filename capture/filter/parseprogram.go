package filter

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// ParseProgram reads a program as "tcpdump -ddd" prints it: the number of instructions, then an instruction a line,
// all numbers decimal: code, jump if true, jump if false, operand. It was compiled for a link type that the text does
// not tell.
//
// The program is verified by the kernel's rules: what it does when it runs is bounded. It may have 65536 instructions.
func ParseProgram(r io.Reader) (*Filter, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 256)
	var prog []Instruction
	n := -1
	for line := 1; s.Scan(); line++ {
		text := strings.TrimSpace(s.Text())
		switch {
		case text == "":
		case n < 0:
			if err := scan(text, &n); err != nil || n < 1 || n > maxProgram {
				return nil, fmt.Errorf("filter: line %d: %.40q is not a number of instructions from 1 to %d", line, text, maxProgram)
			}
		case len(prog) == n:
			return nil, fmt.Errorf("filter: line %d: there are more than the %d instructions that the first line says", line, n)
		default:
			var i Instruction
			if err := scan(text, &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
				return nil, fmt.Errorf("filter: line %d: %.40q is not an instruction: code, jt, jf and k in decimal", line, text)
			}
			prog = append(prog, i)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("filter: reading a program: %w", err)
	}
	if len(prog) != n {
		return nil, fmt.Errorf("filter: the program ends after %d instructions", len(prog))
	}
	if err := verify(prog); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return &Filter{prog: prog}, nil
}

// scan reads decimal numbers that fill the line.
func scan(line string, values ...any) error {
	words := strings.Fields(line)
	if len(words) != len(values) {
		return fmt.Errorf("%d numbers instead of %d", len(words), len(values))
	}
	for i, v := range values {
		// "%d" takes a sign, and more numbers behind this one.
		if strings.Trim(words[i], "0123456789") != "" {
			return fmt.Errorf("%q is not a number", words[i])
		}
		if _, err := fmt.Sscanf(words[i], "%d", v); err != nil {
			return err
		}
	}
	return nil
}
