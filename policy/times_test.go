package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

func TestHours(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(day, clock string) time.Time { // 2026-11-02 is a Monday
		got, err := time.Parse("2006-01-02 15:04", map[string]string{
			"sun": "2026-11-01", "mon": "2026-11-02", "tue": "2026-11-03", "fri": "2026-11-06", "sat": "2026-11-07",
		}[day]+" "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		hours string
		now   time.Time
		want  bool
	}{
		{`"08:00-18:00 UTC"`, at("mon", "08:00"), true},
		{`"08:00-18:00 UTC"`, at("sun", "17:59"), true},
		{`"08:00-18:00 UTC"`, at("mon", "18:00"), false},
		{`"08:00-18:00 UTC"`, at("mon", "07:59"), false},
		{`"00:00-24:00 UTC"`, at("mon", "23:59"), true},
		{`"mon-fri 08:00-18:00 UTC"`, at("fri", "12:00"), true},
		{`"mon-fri 08:00-18:00 UTC"`, at("sat", "12:00"), false},
		{`"fri-mon 08:00-18:00 UTC"`, at("sun", "12:00"), true},
		{`"fri-mon 08:00-18:00 UTC"`, at("tue", "12:00"), false},
		{`"sat,mon 08:00-18:00 UTC"`, at("mon", "12:00"), true},
		{`"fri 22:00-06:00 UTC"`, at("fri", "22:00"), true},
		{`"fri 22:00-06:00 UTC"`, at("sat", "05:59"), true},
		{`"fri 22:00-06:00 UTC"`, at("sat", "06:00"), false},
		{`"fri 22:00-06:00 UTC"`, at("fri", "05:00"), false},
		{`"08:00-18:00 Europe/Berlin"`, at("mon", "07:00"), true},
		{`"08:00-18:00 Europe/Berlin"`, at("mon", "17:00"), false},
		{`["08:00-09:00 UTC", "tue 12:00-13:00 UTC"]`, at("tue", "12:30").In(berlin), true},
		{`["08:00-09:00 UTC", "tue 12:00-13:00 UTC"]`, at("mon", "12:30"), false},
	} {
		d := parse(t, "  - {name: r, allow: {level: shared, hours: "+c.hours+"}}\n").Decide(policy.Request{Tree: "t", Subject: inContainer(), Now: c.now})
		if d.Allowed != c.want || !c.want && !strings.HasPrefix(d.Reason, "outside of the rule's hours: ") {
			t.Errorf("%s at %v: %+v", c.hours, c.now, d)
		}
	}
}

// A container's time is counted from its start.
func TestTTL(t *testing.T) {
	now := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	p := parse(t, "  - {name: r, allow: {level: shared, ttl: 8h}}\n")
	for _, c := range []struct {
		started time.Time
		reason  string
	}{
		{now.Add(-8*time.Hour + time.Second), ""},
		{now.Add(time.Second), ""}, // clocks differ a little
		{now.Add(-8 * time.Hour), "container's time is over: it started 8h0m0s ago, the rule gives 8h0m0s"},
	} {
		started := func() (time.Time, error) { return c.started, nil }
		d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Now: now, Started: started})
		if d.Allowed != (c.reason == "") || c.reason != "" && d.Reason != c.reason {
			t.Errorf("started %v: %+v", c.started, d)
		}
	}
}

func TestTTLOfUnknownAgeFailsClosed(t *testing.T) {
	p := parse(t, "  - {name: r, allow: {level: shared, ttl: 8h}}\n")
	for want, started := range map[string]func() (time.Time, error){
		"rule has a ttl, and when the container started is not known":                  nil,
		"rule has a ttl, and when the container started is not known: runtime is down": func() (time.Time, error) { return time.Time{}, errDown },
	} {
		if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Started: started}); d.Allowed || d.Reason != want {
			t.Errorf("%+v", d)
		}
	}
}

func TestContainerAccount(t *testing.T) {
	p := parse(t, "  - {name: r, allow: {level: shared, account: \"{container}\"}}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Facts: &identity.Facts{Name: "web"}}); d.Account != "web" || d.OwnAccount {
		t.Errorf("%+v", d)
	}
	for _, f := range []*identity.Facts{nil, {}, {Name: "a/b"}} {
		if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Facts: f}); d.Allowed {
			t.Errorf("%+v: %+v", f, d)
		}
	}
}

// No text makes the parser of tests panic, and what it takes it can run.
func FuzzParseTests(f *testing.F) {
	f.Add([]byte("version: 1\ntests:\n  - {name: a, tree: t, container: {age: 1h}, want: {allowed: true}}\n"))
	f.Add([]byte("version: 1\ntests:\n  - {name: a, tree: t, host: {uid: 1}, at: \"2026-11-02T12:00:00Z\", want: {reason: x}}\n"))
	p := parse(f, web)
	f.Fuzz(func(t *testing.T, b []byte) {
		tests, err := policy.ParseTests("tests", b)
		if err != nil {
			return
		}
		for i := range tests {
			if r := tests[i].Run(p); r.Reason == "" || r.Ok != (r.Problem == "") {
				t.Fatalf("%+v", r)
			}
		}
	})
}

// No text makes the parser of hours panic, and what it takes is some minutes of the week and not all of them or none,
// unless it says so.
func FuzzHours(f *testing.F) {
	for _, s := range []string{"mon-fri 08:00-18:00", "22:00-06:00 UTC", "sat,sun 00:00-24:00 Europe/Berlin", "fri-mon 10:00-09:59"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, hours string) {
		p, err := policy.Parse("f", []byte("version: 1\nrules:\n  - name: r\n    allow:\n      level: shared\n      hours: \""+hours+"\"\n"))
		if err != nil {
			return
		}
		open := 0
		start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		for m := range 7 * 24 * 60 {
			if p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Now: start.Add(time.Duration(m) * time.Minute)}).Allowed {
				open++
			}
		}
		if open == 0 || open == 7*24*60 && !strings.Contains(hours, "00:00-24:00") {
			t.Fatalf("%q: open %d minutes of the week", hours, open)
		}
	})
}
