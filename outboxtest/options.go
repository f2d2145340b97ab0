package outboxtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"
)

// Option configures a Server. Without options it has region us-east-1, account
// 000000000000, the system clock, no faults, no throughput limits and no delays.
type Option interface{ apply(*settings) error }

type settings struct {
	now             func() time.Time
	region, account string
	kinesisLimits   bool
	delay           time.Duration
	seed            uint64
	random          bool // the seed is not the caller's
	faults          []Fault
	warn            func(string)
}

type optionFunc func(*settings) error

func (f optionFunc) apply(s *settings) error { return f(s) }

// WithClock makes the server take its points in time from now, which must be safe
// for concurrent use. The answers carry it as their Date. Default: [time.Now]. Waits are not affected; see the
// package comment.
func WithClock(now func() time.Time) Option {
	return optionFunc(func(s *settings) error {
		if now == nil {
			return errors.New("outboxtest: WithClock: the clock is nil")
		}
		s.now = now
		return nil
	})
}

// WithRegion sets the region in ARNs and records. Default: us-east-1.
func WithRegion(region string) Option {
	return optionFunc(func(s *settings) error {
		if region == "" || strings.ContainsAny(region, ": /") {
			return fmt.Errorf("outboxtest: WithRegion: %q is no region", region)
		}
		s.region = region
		return nil
	})
}

// WithAccount sets the account in ARNs and error texts: twelve digits. Default:
// 000000000000.
func WithAccount(account string) Option {
	return optionFunc(func(s *settings) error {
		if len(account) != 12 || strings.Trim(account, "0123456789") != "" {
			return fmt.Errorf("outboxtest: WithAccount: %q is not twelve digits", account)
		}
		s.account = account
		return nil
	})
}

// WithKinesisLimits enforces the limits of a Kinesis shard, by the clock: per
// second, 5 GetRecords and 5 GetShardIterator calls, 2 MiB read, and 1 MiB or
// 1,000 records written. Change records from DynamoDB are not limited. Default:
// off.
func WithKinesisLimits() Option {
	return optionFunc(func(s *settings) error { s.kinesisLimits = true; return nil })
}

// WithDelays makes the creation, change and deletion of streams and Kinesis
// destinations take d, by the clock. Until then they are CREATING, UPDATING,
// ENABLING and so on. Default: 0, at once.
func WithDelays(d time.Duration) Option {
	return optionFunc(func(s *settings) error {
		if d < 0 {
			return fmt.Errorf("outboxtest: WithDelays: %v is negative", d)
		}
		s.delay = d
		return nil
	})
}

// WithFaults makes things go wrong from the beginning, decided by the seed. See
// [Fault] and [Server.SetFaults]. For another storm in every run, see
// [WithRandomFaults].
func WithFaults(seed uint64, faults ...Fault) Option {
	return optionFunc(func(s *settings) error {
		s.seed, s.random, s.faults = seed, false, faults
		_, err := rules(faults)
		return err
	})
}

// SeedVariable is the environment variable from which [WithRandomFaults] takes
// its seed, to replay a run.
const SeedVariable = "OUTBOXTEST_SEED"

// WithRandomFaults is [WithFaults] with another seed in every run, which [Start]
// logs. To replay a run, put its seed into the environment:
//
//	OUTBOXTEST_SEED=1234 go test -run TestOrders ./...
//
// Nothing else in this package reads the environment. Without faults,
// WithRandomFaults only sets the seed, for [Server.SetFaults].
func WithRandomFaults(faults ...Fault) Option {
	return optionFunc(func(s *settings) error {
		_, err := rules(faults)
		s.seed, s.random, s.faults = rand.Uint64(), true, faults
		if text := os.Getenv(SeedVariable); text != "" {
			seed, parseErr := strconv.ParseUint(text, 10, 64)
			if parseErr != nil {
				err = errors.Join(err, fmt.Errorf("outboxtest: WithRandomFaults: the environment variable %s is no seed: %w", SeedVariable, parseErr))
			}
			s.seed = seed
		}
		return err
	})
}
