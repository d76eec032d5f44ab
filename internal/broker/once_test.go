package broker_test

import "testing"

// A server that is killed after it published and before it said so has the next one publish the same again.
func TestPublishedOnce(t *testing.T) {
	w := newWorld(t, "isolated", given)
	w.login(t, "default")
	c := w.container("web", "web")
	w.open(t, c, "web")
	old, newer := w.srv.NewLogin(), w.srv.NewLogin()
	id := freshID()
	ch := w.write(t, c, "web")
	wantErr(t, ch.Publish(t.Context(), id, file(t, old, nil)), nil)
	wantErr(t, w.publish(t, c, "web", file(t, newer, nil)), nil)
	w.restart(t)
	again := w.write(t, c, "web")
	wantErr(t, again.Publish(t.Context(), id, file(t, old, nil)), nil)
	if cr, _, err := w.vault.Load("web"); err != nil || !cr.RefreshToken.Equal(secret(newer.RefreshToken)) {
		t.Errorf("the older login is back: %v", err)
	}
}

// Killed between the vault and the tree's document: the login was taken already, and refreshed since.
func TestAdoptedOnce(t *testing.T) {
	w := newWorld(t, "isolated", given)
	w.login(t, "default")
	c := w.container("web", "web")
	w.open(t, c, "web")
	l := w.srv.NewLogin()
	id := freshID()
	wantErr(t, w.write(t, c, "web").Publish(t.Context(), id, file(t, l, nil)), nil)
	_, version, err := w.vault.LoadDocument("web")
	if err == nil {
		_, err = w.vault.StoreDocument("web", secret(`{"version":1,"generation":1,"changed_at":1}`), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	spent, version, err := w.vault.Load("web")
	if err != nil {
		t.Fatal(err)
	}
	next := *spent
	next.RefreshToken, next.Generation = secret("sk-ant-ort01-rotated"), spent.Generation+1
	if _, err := w.vault.Store(&next, version); err != nil {
		t.Fatal(err)
	}
	wantErr(t, w.write(t, c, "web").Publish(t.Context(), id, file(t, l, nil)), nil)
	if cr, _, err := w.vault.Load("web"); err != nil || !cr.RefreshToken.Equal(next.RefreshToken) {
		t.Errorf("the spent refresh token is back: %v", err)
	}
}
