package schemas

import "bytes"

const hexDigits = "0123456789abcdef"

// EscapeBreaks writes the characters of a JSON document that some readers take for the
// end of a line, or for a control, as escapes: U+007F to U+009F with U+0085 among them,
// U+2028 and U+2029. JSON lets them stand in texts as they are, but Python's splitlines
// and what is built on it cut a frame or a line of NDJSON at them. The document means
// the same. It is returned as it is where it holds none.
func EscapeBreaks(b []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(b); i++ {
		c, size := breakAt(b[i:])
		if size == 0 {
			continue
		}
		if out == nil {
			out = make([]byte, 0, len(b)+32)
		}
		out = append(append(out, b[done:i]...), '\\', 'u', hexDigits[c>>12], hexDigits[c>>8&15], hexDigits[c>>4&15], hexDigits[c&15])
		i += size - 1
		done = i + 1
	}
	if out == nil {
		return b
	}
	return append(out, b[done:]...)
}

// breakAt is the character that b begins with, if it is one of those, and its size in
// UTF-8.
func breakAt(b []byte) (c rune, size int) {
	switch {
	case b[0] == 0x7F:
		return 0x7F, 1
	case b[0] == 0xC2 && len(b) > 1 && b[1] < 0xA0: // U+0080 to U+009F
		return rune(b[1]), 2
	case bytes.HasPrefix(b, []byte("\u2028")):
		return 0x2028, 3
	case bytes.HasPrefix(b, []byte("\u2029")):
		return 0x2029, 3
	}
	return 0, 0
}
