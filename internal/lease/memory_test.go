package lease_test

import (
	"testing"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/leasetest"
)

func TestMemory(t *testing.T) {
	leasetest.Conform(t, func(*testing.T) lease.Store { return &lease.Memory{} })
}
