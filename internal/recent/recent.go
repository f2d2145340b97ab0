// Package recent remembers the last entries that were added, up to a number. It must not know what the entries are.
package recent

import "sync"

// Cache holds the last entries under their keys, first in, first out. A Cache of size 0 holds nothing. It is safe for concurrent
// use.
type Cache[V any] struct {
	mu     sync.Mutex
	size   int
	values map[string]V
	keys   []string // in the order of their coming; a ring once it is full
	oldest int
}

// New returns an empty Cache for size entries.
func New[V any](size int) *Cache[V] {
	return &Cache[V]{size: size, values: make(map[string]V)}
}

// Get returns the entry that was added last under the key. ok is false if the Cache no longer has an entry.
func (c *Cache[V]) Get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v, ok
}

// Add adds an entry. If the Cache is full, the entry replaces the oldest. A key that is in the Cache keeps its age.
func (c *Cache[V]) Add(key string, v V) {
	if c.size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.values[key]; !there {
		if len(c.keys) < c.size {
			c.keys = append(c.keys, key)
		} else {
			delete(c.values, c.keys[c.oldest])
			c.keys[c.oldest] = key
			c.oldest = (c.oldest + 1) % c.size
		}
	}
	c.values[key] = v
}
