package recent_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/recent"
)

func held(c *recent.Cache[int], n int) (keys []int) {
	for i := range n {
		if v, ok := c.Get(strconv.Itoa(i)); ok && v == i {
			keys = append(keys, i)
		}
	}
	return keys
}

func TestTheOldestGoesFirst(t *testing.T) {
	c := recent.New[int](3)
	for i := range 8 {
		c.Add(strconv.Itoa(i), i)
		if i == 1 {
			require.Equal(t, []int{0, 1}, held(c, 8))
		}
	}
	require.Equal(t, []int{5, 6, 7}, held(c, 8))
}

func TestAKeyThatIsThereTakesNoOthersPlace(t *testing.T) {
	c := recent.New[int](2)
	c.Add("0", 7)
	c.Add("1", 1)
	c.Add("0", 0)
	require.Equal(t, []int{0, 1}, held(c, 4))
	c.Add("2", 2)
	require.Equal(t, []int{1, 2}, held(c, 4), "it keeps its age")
}

func TestSizeZeroHoldsNothing(t *testing.T) {
	c := recent.New[int](0)
	c.Add("0", 0)
	require.Empty(t, held(c, 1))
}

func TestConcurrentUse(t *testing.T) {
	c := recent.New[int](10)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				c.Add(strconv.Itoa(i%20), i%20)
				if v, ok := c.Get(strconv.Itoa(g)); ok && v != g {
					t.Errorf("key %d has %d", g, v)
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, held(c, 20), 10)
}
