package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// Reasons why Consume's context ends. After errDead and errSilent the worker registers under another name, after
// errBlind when it may look again. errDrain does not wrap
// ErrLost, because the lease is still held.
var (
	errDead   = fmt.Errorf("%w: this worker has been marked dead", ErrLost)
	errSilent = fmt.Errorf("%w: no heartbeat of this worker has been confirmed for too long", ErrLost)
	errBlind  = fmt.Errorf("%w: this worker may not look at the table", ErrLost)
	errOver   = fmt.Errorf("%w: this worker has stopped", ErrLost)
	errDrain  = errors.New("draining takes longer than it may")
)

// Run takes part until ctx ends, or until a Consume returns a Fatal error. Then it drains, hands over or releases every lease,
// and returns nil or the Fatal error. It returns only when no Consume runs any more.
//
// A worker that was fenced registers anew, while a Consume of its last life may still run. So two Consumes of a shard may run
// at the same time, at different fences.
//
// If the table does not answer, is missing or may not be used, Run goes on asking. It returns an error of the table only if the very first
// registration or the very first look fails with a Fatal error: the table is none for leases.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	watch, health := newWatch(cfg.Duration), cfg.Health
	health.begin(cfg)
	var past sync.WaitGroup // lives that were fenced and of which something still runs
	defer past.Wait()
	for first := true; ; first = false {
		l, err := register(ctx, cfg, watch, health, first)
		if l == nil {
			return err
		}
		err = l.run(ctx)
		if !errors.Is(err, ErrLost) {
			l.finish(ctx)
			return err
		}
		past.Go(func() { l.finish(ctx) })
		if errors.Is(err, errBlind) {
			l.awaitSight(ctx)
		}
	}
}

// register gives the worker a fresh name and a row. It repeats until ctx ends, and then returns nil and no error.
func register(ctx context.Context, cfg Config, watch *watch, health *Health, first bool) (*life, error) {
	for n := 1; ctx.Err() == nil; n++ {
		l := newLife(cfg, watch, health, cfg.Worker+"-"+cfg.suffix())
		l.registered = time.Now()
		err := l.call(ctx, "Register", func(ctx context.Context) error { return cfg.Store.Register(ctx, l.id, cfg.Duration) })
		if err == nil {
			if cfg.Hooks.Registered != nil {
				cfg.Hooks.Registered(l.id)
			}
			return l, nil
		}
		health.beat(time.Time{}, err)
		if first && IsFatal(err) {
			return nil, err
		}
		sleep(ctx, cfg.retry().Delay(n))
	}
	return nil, nil
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	for name, missing := range map[string]bool{"Store": c.Store == nil, "Shards": c.Shards == nil, "Consume": c.Consume == nil} {
		if missing {
			errs = append(errs, fmt.Errorf("%s is missing from the Config", name))
		}
	}
	duration := func(d *time.Duration, name string, def time.Duration) {
		if *d == 0 {
			*d = def
		}
		if *d < 0 {
			errs = append(errs, fmt.Errorf("the Config's %s is negative: %v", name, *d))
		}
	}
	duration(&c.Duration, "Duration", 8*time.Second)
	duration(&c.Beat, "Beat", c.Duration/4)
	duration(&c.Tick, "Tick", c.Duration/16)
	duration(&c.List, "List", time.Minute)
	duration(&c.Drain, "Drain", 30*time.Second)
	if c.Duration < 2*c.Beat {
		errs = append(errs, fmt.Errorf("the Config's Duration %v is less than two beats of %v: one lost answer would cost every lease", c.Duration, c.Beat))
	}
	if c.Health == nil {
		c.Health = new(Health)
	}
	if c.Start == "" {
		c.Start = TrimHorizon
	}
	if c.Worker == "" {
		c.Worker = "worker"
	}
	if c.Now == nil {
		c.Now = func(context.Context) (time.Time, error) { return time.Now(), nil }
	}
	if c.suffix == nil {
		c.suffix = rand.Text
	}
	return c, errors.Join(errs...)
}

// retry paces the repeats of failed calls. A long lease is no reason to wait long.
func (c Config) retry() backoff.FullJitter {
	return backoff.FullJitter{Base: min(c.Beat/8, 250*time.Millisecond), Max: min(c.Beat, 2*time.Second)}
}

// slow paces the attempts to read a shard that cannot be read.
func (c Config) slow() backoff.FullJitter {
	return backoff.FullJitter{Base: min(c.Beat/4, 500*time.Millisecond), Max: min(15*c.Beat, 30*time.Second)}
}

// sleep reports whether it slept for all of d.
func sleep(ctx context.Context, d time.Duration) bool {
	return backoff.Sleep(ctx, d) == nil
}
