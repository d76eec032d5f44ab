package container

// Drops counts what made the cache forget.
func (c *Cache) Drops() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}
