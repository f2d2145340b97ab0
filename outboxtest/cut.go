package outboxtest

import (
	"fmt"
	"slices"
	"sync"
)

// cuts counts, by service, how often its network is cut at the moment.
type cuts struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *cuts) add(services []string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[string]int)
	}
	for _, s := range services {
		c.count[s] += n
	}
}

func (c *cuts) has(service string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[service] > 0
}

// Cut cuts the network between the clients and the services until heal is called.
// The services are DynamoDB, Kinesis and DynamoDBStreams; without arguments Cut
// cuts all of them. Requests do not get through, and the answers of requests
// under way are lost. What runs inside AWS goes on: change records flow, mappings
// read.
//
// Each service is cut and healed on its own, and independently of faults: neither
// [Server.SetFaults] nor [Server.StopFaults] heals it. Cuts add up: a service
// that was cut twice is back after both have healed. Calling heal again does
// nothing. The error names an unknown service.
func (s *Server) Cut(services ...string) (heal func(), err error) {
	all := []string{serviceDynamoDB, serviceKinesis, serviceStreams}
	for _, name := range services {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("outboxtest: Cut: unknown service %q", name)
		}
	}
	if len(services) == 0 {
		services = all
	}
	services = slices.Clone(services)
	s.cuts.add(services, 1)
	var once sync.Once
	return func() { once.Do(func() { s.cuts.add(services, -1) }) }, nil
}
