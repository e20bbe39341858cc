package top

import "bytes"

// key is what was typed.
type key int

const (
	keyNone key = iota
	keyQuit
	keyStop // ^Z
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyEnter
	keyBack
	keyRedraw
	keyOther // a letter: see keys.letter
)

// sequences are what terminals send for keys that are no characters.
var sequences = []struct {
	bytes string
	key   key
}{
	{"\x1b[A", keyUp}, {"\x1bOA", keyUp}, {"\x1b[B", keyDown}, {"\x1bOB", keyDown}, {"\x1b[D", keyBack}, {"\x1bOD", keyBack},
	{"\x1b[5~", keyPageUp}, {"\x1b[6~", keyPageDown}, {"\x1b[C", keyEnter}, {"\x1bOC", keyEnter},
	{"k", keyUp}, {"j", keyDown}, {"\r", keyEnter}, {"\n", keyEnter}, {"\x7f", keyBack}, {"\b", keyBack},
	{"q", keyQuit}, {"Q", keyQuit}, {"\x03", keyQuit}, {"\x1a", keyStop}, {"\x0c", keyRedraw},
}

// nextKey takes a key from what was read, and gives the rest. What is of no key is
// passed over.
func nextKey(b []byte) (k key, letter byte, rest []byte) {
	for _, s := range sequences {
		if rest, ok := bytes.CutPrefix(b, []byte(s.bytes)); ok {
			return s.key, 0, rest
		}
	}
	if b[0] != 0x1b {
		return keyOther, b[0], b[1:]
	}
	if len(b) == 1 {
		return keyBack, 0, nil // ESC alone
	}
	if b[1] != '[' && b[1] != 'O' {
		return keyNone, 0, b[2:]
	}
	end := 2 // the sequence's last byte is the first from @ on (ECMA-48 5.4)
	for end < len(b) && (b[end] < '@' || b[end] > '~') {
		end++
	}
	return keyNone, 0, b[min(end+1, len(b)):]
}
