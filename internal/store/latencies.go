package store

import "math"

// Latencies is a histogram of milliseconds that merges by addition. Bucket 0 holds
// what took less than one; from there on four buckets double the time, so that the
// bounds of one are 19 % apart, and the last one holds all that is longer than five
// minutes too. Buckets behind the last one that holds anything are left out.
type Latencies []int64

// latencyBuckets reach up to the longest timeout that a webhook can have.
const (
	latencyBuckets   = 74
	bucketsPerOctave = 4
)

// Add counts one latency.
func (l *Latencies) Add(ms int64) { l.put(latencyBucket(ms), 1) }

// Merge adds another histogram up.
func (l *Latencies) Merge(other Latencies) {
	for i, n := range other {
		l.put(i, n)
	}
}

func (l *Latencies) put(bucket int, n int64) {
	if n == 0 {
		return
	}
	for len(*l) <= bucket {
		*l = append(*l, 0)
	}
	(*l)[bucket] += n
}

// Quantile is the latency that the share q of all does not exceed, in
// milliseconds, interpolated inside its bucket: so it is at most 19 % away from
// the true one. It is false when nothing was counted.
func (l Latencies) Quantile(q float64) (ms float64, ok bool) {
	var total int64
	for _, n := range l {
		total += n
	}
	if total == 0 {
		return 0, false
	}
	rank := math.Max(1, math.Ceil(q*float64(total)))
	var below float64
	for i, n := range l {
		if below+float64(n) >= rank {
			low, high := bucketBounds(i)
			return low + (high-low)*(rank-below-0.5)/float64(n), true
		}
		below += float64(n)
	}
	return 0, false // not reached: rank is at most the total
}

func latencyBucket(ms int64) int {
	if ms < 1 {
		return 0
	}
	return min(1+int(math.Floor(bucketsPerOctave*math.Log2(float64(ms)))), latencyBuckets-1)
}

func bucketBounds(i int) (low, high float64) {
	if i == 0 {
		return 0, 1
	}
	return math.Exp2(float64(i-1) / bucketsPerOctave), math.Exp2(float64(i) / bucketsPerOctave)
}
