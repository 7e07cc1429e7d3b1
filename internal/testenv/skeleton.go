package testenv

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"
)

// enough is how many answers of one skeleton are validated. To validate an answer costs
// more than to make it, and a test may make ten thousand that differ in ids and times.
const enough = 3

// skeletons counts valid answers by what is left of them without numbers and ids.
type skeletons struct {
	seed  maphash.Seed
	mu    sync.Mutex
	valid map[uint64]int
}

func newSkeletons() *skeletons {
	return &skeletons{seed: maphash.MakeSeed(), valid: map[uint64]int{}}
}

// of hashes method, path, status, type and body of an answer.
func (s *skeletons) of(req *http.Request, res *http.Response, body []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range []string{req.Method, req.URL.Path, strconv.Itoa(res.StatusCode), res.Header.Get("Content-Type")} {
		_, _ = h.Write(skeleton([]byte(part)))
		_ = h.WriteByte(0)
	}
	_, _ = h.WriteString(strconv.Itoa(res.StatusCode)) // its digits matter
	_, _ = h.Write(skeleton(body))
	return h.Sum64()
}

func (s *skeletons) known(of uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid[of] >= enough
}

func (s *skeletons) add(of uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.valid[of]++
}

// idLength is that of the shortest run of letters, digits, - and _ that is taken for an
// id, when it has a digit: a date is shorter, and words have no digits.
const idLength = 16

// skeleton puts 0 in the place of each run of digits, and X in that of each id.
func skeleton(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		end, digits := i, 0
		for ; end < len(b) && ofID(b[end]); end++ {
			if isDigit(b[end]) {
				digits++
			}
		}
		switch {
		case end == i:
			out = append(out, b[i])
			end++
		case digits > 0 && end-i >= idLength:
			out = append(out, 'X')
		default:
			for ; i < end; i++ {
				if !isDigit(b[i]) {
					out = append(out, b[i])
				} else if len(out) == 0 || out[len(out)-1] != '0' {
					out = append(out, '0')
				}
			}
		}
		i = end
	}
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func ofID(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}
