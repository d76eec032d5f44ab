package broker_test

import "testing"

// A change that an earlier server permitted goes on, also one of a host process, whose program is not asked for again.
func TestTicket(t *testing.T) {
	w := newWorld(t, "  - {name: me, match: {host: {uid: [1000]}}, allow: {level: shared}}\n")
	w.login(t, "default")
	c := w.host(1000)
	w.subject(c).Program = func() string { return "/usr/bin/cat" }
	text, err := w.write(t, c, "web").Ticket()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Redeem("web", text); err != nil {
		t.Error(err)
	}
	if _, err := w.Redeem("web", text[1:]); err == nil {
		t.Error("a ticket that cannot be read was redeemed")
	}
}
