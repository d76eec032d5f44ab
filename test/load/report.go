package main

import "time"

// report is what the program prints.
type report struct {
	Ops        map[string]opReport `json:"ops"`
	Lost       int                 `json:"lost"`
	Duplicated int                 `json:"duplicated"`
	Failed     int                 `json:"failed"`
	Slowest    slowReport          `json:"slowest"`
}

// opReport is the part of one worker. Count and the times are about its single
// calls, without the sleeps between them; rounds are its turns.
type opReport struct {
	Count      int      `json:"count"`
	Failed     int      `json:"failed"`
	P50        float64  `json:"p50_ms"`
	P99        float64  `json:"p99_ms"`
	Max        float64  `json:"max_ms"`
	Errors     []string `json:"errors"`
	Rounds     int      `json:"rounds"`
	Lost       int      `json:"lost,omitempty"`
	Duplicated int      `json:"duplicated,omitempty"`
	Busy       int      `json:"busy,omitempty"`
}

// slowReport is the slowest call of all.
type slowReport struct {
	Op   string  `json:"op"`
	Step string  `json:"step"`
	MS   float64 `json:"ms"`
}

// summarize collects the report from all lanes.
func summarize(teams []team) report {
	all := report{Ops: map[string]opReport{}}
	var longest time.Duration
	for _, t := range teams {
		op := t.lane.summary()
		all.Ops[t.name] = op
		all.Failed += op.Failed
		all.Lost += op.Lost
		all.Duplicated += op.Duplicated
		if step, took := t.lane.worst(); took > longest {
			longest = took
			all.Slowest = slowReport{Op: t.name, Step: step, MS: milliseconds(took)}
		}
	}
	return all
}

// clean tells whether nothing went wrong.
func (r report) clean() bool {
	return r.Failed+r.Lost+r.Duplicated == 0
}

// summary is the lane's part of the report.
func (l *lane) summary() opReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	return opReport{
		Count:      l.times.total,
		Failed:     l.failed,
		P50:        milliseconds(l.times.quantile(0.50)),
		P99:        milliseconds(l.times.quantile(0.99)),
		Max:        milliseconds(l.times.max),
		Errors:     append([]string{}, l.errors...), // [] and not null
		Rounds:     l.rounds,
		Lost:       l.lost,
		Duplicated: l.duplicated,
		Busy:       l.busy,
	}
}

// worst is the lane's slowest step.
func (l *lane) worst() (step string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slowest, l.longest
}

// milliseconds gives d with three decimals.
func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
