package container

import "time"

// MaxAge is how long an answer is used.
const MaxAge = maxAge

// Drops counts what made the cache forget.
func (c *Cache) Drops() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}

// Age makes all that is kept older.
func (c *Cache) Age(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.entries {
		e.at = e.at.Add(-by)
		c.entries[id] = e
	}
}

// Settle has a socket served by one uid after the other.
func Settle(uids ...uint32) error {
	var p peer
	for _, uid := range uids {
		if err := p.settle(uid); err != nil {
			return err
		}
	}
	return nil
}
