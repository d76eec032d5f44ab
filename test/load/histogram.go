package main

import (
	"math"
	"math/bits"
	"time"
)

// subBits is the precision of a histogram: every power of two is divided into
// 1<<subBits buckets, which is exact to within one part in that many.
const subBits = 6

// histogram counts durations in a bounded amount of memory, however many.
type histogram struct {
	counts [(64 - subBits + 1) << subBits]uint32
	total  int
	max    time.Duration
}

// add counts one duration.
func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the duration that the share q of all durations does not
// exceed.
func (h *histogram) quantile(q float64) time.Duration {
	want := int(math.Ceil(q * float64(h.total)))
	seen := 0
	for i, n := range h.counts {
		seen += int(n)
		if n > 0 && seen >= want {
			return min(ceiling(i), h.max)
		}
	}
	return h.max
}

// bucket returns the index of the bucket that v belongs into.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// ceiling returns the largest duration that belongs into bucket i.
func ceiling(i int) time.Duration {
	shift := max(i>>subBits-1, 0)
	top := i - shift<<subBits
	return time.Duration(uint64(top+1)<<shift - 1)
}
