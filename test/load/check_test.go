package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// journalText formats a journal with the given lines.
func journalText(t *testing.T, numbers ...int) string {
	t.Helper()
	var all strings.Builder
	for _, n := range numbers {
		data, err := json.Marshal(map[string]any{"line": n, "pad": padding})
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(data, '\n'))
	}
	return all.String()
}

func TestCheckLines(t *testing.T) {
	acked := []bool{true, true, false, true}
	tests := []struct {
		name                    string
		text                    string
		lost, duplicated, wrong int
	}{
		{"all", journalText(t, 0, 1, 2, 3), 0, 0, 0},
		{"without the one that failed", journalText(t, 0, 1, 3), 0, 0, 0},
		{"lost in the middle", journalText(t, 0, 2, 3), 1, 0, 0},
		{"lost at the end", journalText(t, 0, 1), 1, 0, 0},
		{"empty", "", 3, 0, 0},
		{"doubled at once", journalText(t, 0, 1, 1, 3), 0, 1, 0},
		{"doubled later", journalText(t, 0, 1, 3, 0, 1), 0, 2, 0},
		{"doubled though failed", journalText(t, 0, 1, 2, 2, 3), 0, 1, 0},
		{"out of order", journalText(t, 1, 0, 3), 0, 0, 1},
		{"one too many", journalText(t, 0, 1, 3, 4), 0, 0, 1},
		{"torn", journalText(t, 0, 1) + `{"line":3,"pa`, 1, 0, 1},
		{"zeros", journalText(t, 0, 1) + "\x00\x00\x00\n" + journalText(t, 3), 0, 0, 1},
	}
	for _, test := range tests {
		found := checkLines([]byte(test.text), acked)
		if found.lost != test.lost || found.duplicated != test.duplicated || len(found.wrong) != test.wrong {
			t.Errorf("%s: %d lost, %d duplicated, wrong %q", test.name, found.lost, found.duplicated, found.wrong)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		got := h.quantile(q)
		if got < want || got > want+want/50 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 127, 128, 1 << 40, 1<<63 - 1} {
		if i := bucket(v); uint64(ceiling(i)) < v || i > 0 && uint64(ceiling(i-1)) >= v {
			t.Errorf("%d is in bucket %d, which ends at %d", v, i, ceiling(i))
		}
	}
}
