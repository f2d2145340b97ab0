package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// cloud is the AWS that the services run on, and what can be done to it.
type cloud struct {
	where    string
	clean    aws.Config // of whoever sets up and checks
	stormy   aws.Config // of the services
	couriers bool       // between the tables and the streams, since there is no other way to duplicates
	twice    *atomic.Int64
	storm    func() error // begins it
	calm     func()       // ends it
	drain    func(context.Context) error
	struck   func() map[string]int // how often what has gone wrong
}

// embedded is an AWS in this process.
func embedded(seed uint64) (c cloud, closed func()) {
	local := outboxtest.New(outboxtest.WithFaults(seed))
	return cloud{
		where: "an AWS in this process", clean: local.Config(), stormy: local.Config(),
		storm: func() error { return local.SetFaults(faults()...) },
		calm:  local.StopFaults,
		drain: local.Drain, // every change record has reached its stream
		struck: func() map[string]int {
			counts := make(map[string]int)
			for kind, n := range local.Struck() {
				counts[string(kind)] = n
			}
			return counts
		},
	}, local.Close
}

// configured is the AWS of the SDK's configuration: credentials, region and endpoints come from where every AWS tool has them.
func configured(ctx context.Context, d *dice) (cloud, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return cloud{}, err
	}
	if cfg.Region == "" {
		return cloud{}, errors.New("no AWS region is configured: set AWS_REGION")
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	var on atomic.Bool
	var lost, twice atomic.Int64
	stormy := cfg.Copy()
	stormy.HTTPClient = rough{cfg.HTTPClient, d, &on, &lost}
	return cloud{
		where: "AWS in " + cfg.Region, clean: cfg, stormy: stormy, couriers: true, twice: &twice,
		storm:  func() error { on.Store(true); return nil },
		calm:   func() { on.Store(false) },
		drain:  func(context.Context) error { return nil },
		struck: func() map[string]int { return map[string]int{"lost": int(lost.Load()), "twice": int(twice.Load())} },
	}, nil
}

// removing is the context of cleaning up, which has time of its own.
func removing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}
