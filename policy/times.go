package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Duration is a length of time as time.ParseDuration reads it: 90m, 8h.
type Duration time.Duration

// UnmarshalYAML accepts a positive duration.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	got, err := time.ParseDuration(text)
	if _, scalar := n.(ast.ScalarNode); !scalar || err != nil || got <= 0 {
		return refuse(n, fmt.Errorf("%q is no duration; want one such as 90m or 8h", text))
	}
	*d = Duration(got)
	return nil
}

var (
	_ yaml.NodeUnmarshaler = (*Duration)(nil)
	_ yaml.NodeUnmarshaler = (*Hours)(nil)
)

// refuse is an error that knows its place.
func refuse(n ast.Node, err error) error {
	return &yaml.SyntaxError{Message: err.Error(), Token: n.GetToken()}
}

// Hours is a list of times in the week; any of them may hold.
type Hours []Span

// Span is a time in the week: "mon-fri 08:00-18:00", "sat 09:00-12:00 UTC". Without days it is every day, without a zone
// the host's. An end before the beginning is on the next day.
type Span struct {
	text     string
	days     [7]bool // by time.Weekday, of the beginning
	from, to int     // minutes since midnight
	zone     *time.Location
}

// UnmarshalYAML accepts one time or a list of them.
func (h *Hours) UnmarshalYAML(n ast.Node) error {
	items := []ast.Node{n}
	if list, ok := n.(*ast.SequenceNode); ok {
		if items = list.Values; len(items) == 0 {
			return refuse(n, errors.New("empty list; it would never be time"))
		}
	}
	*h = nil
	for _, item := range items {
		text, ok := item.(*ast.StringNode)
		if !ok {
			return refuse(item, errors.New("want text such as \"mon-fri 08:00-18:00\""))
		}
		s, err := parseSpan(text.Value)
		if err != nil {
			return refuse(item, err)
		}
		*h = append(*h, s)
	}
	return nil
}

// String is how the file spells it.
func (h Hours) String() string {
	var out []string
	for _, s := range h {
		out = append(out, s.text)
	}
	return strings.Join(out, ", ")
}

// include reports whether t is in one of the times; it is when there is none.
func (h Hours) include(t time.Time) bool {
	return len(h) == 0 || slices.ContainsFunc(h, func(s Span) bool { return s.includes(t) })
}

func (s *Span) includes(t time.Time) bool {
	t = t.In(s.zone)
	minute := t.Hour()*60 + t.Minute()
	today, yesterday := s.days[t.Weekday()], s.days[(t.Weekday()+6)%7]
	if s.from < s.to {
		return today && minute >= s.from && minute < s.to
	}
	return today && minute >= s.from || yesterday && minute < s.to
}

var spanForm = regexp.MustCompile(`^(?:([a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*) )?([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})(?: ([A-Za-z0-9_+/-]+))?$`)

func parseSpan(text string) (s Span, err error) {
	m := spanForm.FindStringSubmatch(text)
	if m == nil {
		return s, fmt.Errorf("%q is no time of the week; want one such as \"mon-fri 08:00-18:00\" or \"22:00-06:00 UTC\"", text)
	}
	s = Span{text: text, zone: time.Local}
	if s.days, err = parseDays(m[1]); err != nil {
		return s, fmt.Errorf("%q: %w", text, err)
	}
	var ok1, ok2 bool
	s.from, ok1 = minutes(m[2])
	s.to, ok2 = minutes(m[3])
	if !ok1 || !ok2 || s.from == s.to || s.from == 24*60 {
		return s, fmt.Errorf("%q: want two times of the day from 00:00 to 24:00", text)
	}
	if m[4] != "" && m[4] != "Local" {
		if s.zone, err = time.LoadLocation(m[4]); err != nil {
			return s, fmt.Errorf("%q: this host knows no time zone %q; want one such as UTC or Europe/Berlin", text, m[4])
		}
	}
	return s, nil
}

func minutes(text string) (int, bool) {
	hour, err1 := strconv.Atoi(text[:2])
	minute, err2 := strconv.Atoi(text[3:])
	n := hour*60 + minute
	return n, err1 == nil && err2 == nil && minute < 60 && n <= 24*60
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

// parseDays reads "mon-fri,sun"; a range may go over the weekend. Empty is every day.
func parseDays(text string) (days [7]bool, err error) {
	if text == "" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is no day; want mon, tue, wed, thu, fri, sat or sun", part)
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}
