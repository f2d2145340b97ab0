package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"
)

// fleetVariable is for how long TestFleet places orders, such as 3m, for which go test needs a longer -timeout, too. fleetSeedVariable
// decides who is struck, when and how; what the processes make of it is theirs.
const (
	fleetVariable     = "FLEET_DURATION"
	fleetSeedVariable = "FLEET_SEED"
	fleetDefault      = 4 * time.Second
)

const (
	fleetWorkers    = 3
	fleetRate       = 28 // orders a second: 5,040 in 3 minutes
	fleetUnfinished = 100
	// fleetBound is how many records one takeover may handle again: those above the stored checkpoint.
	fleetBound   = fleetUnfinished
	fleetStream  = "events"
	defaultLease = 8 * time.Second
)

// TestFleet is the order service as processes: one API, and three workers that share the stream. While orders are placed,
// workers are killed, stopped for longer than their lease, and asked to end, and the stream is resharded. In the end every order
// that was answered with 201 is confirmed, and no takeover handled more records again than it may.
func TestFleet(t *testing.T) {
	duration := fleetDefault
	if text := os.Getenv(fleetVariable); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		require.NoError(t, err, fleetVariable)
	}
	orders, localaws := buildExample(t, "orders"), buildExample(t, "localaws")
	onLocalAWS := func(t *testing.T) (endpoint string) {
		return launch(t, "localaws", nil, localaws, "-addr", "127.0.0.1:0", "-limits").url(t)
	}
	newFleet := func(on string, lease time.Duration) *fleet {
		return &fleet{on: on, binary: orders, duration: duration, lease: lease}
	}
	t.Run("outboxtest", func(t *testing.T) {
		t.Parallel()
		f := newFleet("outboxtest at a port", 2*time.Second)
		f.stream = f.connect(onLocalAWS(t), "")
		createStream(t, f.stream, 4)
		f.run(t)
	})
	if duration > 2*defaultLease { // in less, nothing happens
		t.Run("outboxtest with the default lease", func(t *testing.T) {
			t.Parallel()
			f := newFleet("outboxtest at a port, default lease", defaultLease)
			f.apart = true
			f.stream = f.connect(onLocalAWS(t), "")
			createStream(t, f.stream, 4)
			f.run(t)
		})
	}
	for _, s := range servers(t) {
		switch s.name {
		case "ministack":
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				f := newFleet(s.name, 2*time.Second)
				f.connect(s.endpoint, "") // resharding loses records there, and is left out
				f.run(t)
			})
		case "kinesis-local":
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				f := newFleet("kinesis-local, tables in outboxtest at a port", 2*time.Second)
				tables := onLocalAWS(t)
				f.stream = f.connect(tables, s.endpoint)
				createStream(t, f.stream, 4)
				t.Cleanup(func() {
					_, err := f.stream.DeleteStream(context.WithoutCancel(t.Context()), &kinesis.DeleteStreamInput{StreamName: aws.String(fleetStream)})
					require.NoError(t, err)
				})
				from := kinesis.NewFromConfig(local(tables, http.DefaultClient))
				createStream(t, from, 1)
				defer forward(t, from, f.stream)()
				f.run(t)
			})
		}
	}
}

// fleet is one run.
type fleet struct {
	on       string
	binary   string
	duration time.Duration
	lease    time.Duration
	api      []string // environments
	workers  []string
	stream   *kinesis.Client // to reshard; nil if that is left out
	apart    bool            // one worker at a time is struck

	random  *mathrand.Rand
	slots   [fleetWorkers]slot
	all     []*process
	strikes []*strike
	reshard struct{ split, merged, refused int }

	mu      sync.Mutex
	placed  map[string]bool
	repeats int
}

// slot is the place of a worker in the fleet.
type slot struct {
	p      *process
	struck *strike // nil while it runs undisturbed
	until  time.Time
}

// strike is something done to a worker.
type strike struct {
	kind     string
	p        *process
	at, over time.Time
}

const (
	killed  = "killed"
	stopped = "stopped"
	ended   = "asked to end"
)

// connect sets the environments of the processes, and returns a client for the workers' stream.
func (f *fleet) connect(endpoint, stream string) *kinesis.Client {
	f.api = localEnvironment(endpoint)
	f.workers = localEnvironment(endpoint)
	if stream != "" {
		f.workers = append(f.workers, "AWS_ENDPOINT_URL_KINESIS="+stream)
		endpoint = stream
	}
	return kinesis.NewFromConfig(local(endpoint, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}))
}

func (f *fleet) run(t *testing.T) {
	seed := mathrand.Uint64()
	if text := os.Getenv(fleetSeedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, fleetSeedVariable)
	}
	t.Logf("strikes by %s=%d", fleetSeedVariable, seed)
	f.random = mathrand.New(mathrand.NewPCG(seed, 0))
	f.placed = make(map[string]bool)
	url := launch(t, "api", f.api, f.binary, "-aws", "-role", "api", "-addr", "127.0.0.1:0").url(t)
	for i := range f.slots {
		f.slots[i].p = f.worker(t)
	}
	f.await(t, "a first confirmation", func() bool {
		f.place(t.Context(), url)
		for _, p := range f.all {
			if len(p.journal()) > 0 {
				return true
			}
		}
		return false
	})

	ctx, cancel := context.WithTimeout(t.Context(), f.duration)
	defer cancel()
	var clients sync.WaitGroup
	defer clients.Wait()
	for i := range 7 {
		clients.Go(func() {
			time.Sleep(time.Duration(i) * time.Second / fleetRate)
			for tick := time.NewTicker(7 * time.Second / fleetRate); ctx.Err() == nil; <-tick.C {
				f.place(t.Context(), url)
			}
		})
	}
	f.storm(ctx, t)
	clients.Wait()

	f.await(t, "all confirmations", func() bool {
		return len(f.unconfirmed()) == 0
	})
	if n := len(f.strikes); n > 0 { // shards without records are taken over, too
		time.Sleep(time.Until(f.strikes[n-1].at.Add(2 * f.lease)))
	}
	for i := range f.slots {
		f.slots[i].p.signal(t, syscall.SIGTERM)
	}
	for i := range f.slots {
		f.slots[i].p.requireGoodEnd(t)
	}
	f.judge(t)
}

func (f *fleet) worker(t *testing.T) *process {
	t.Helper()
	p := launch(t, fmt.Sprint("worker ", len(f.all)), f.workers, f.binary, "-aws", "-role", "worker", "-lease", f.lease.String(),
		"-max-unfinished", fmt.Sprint(fleetUnfinished), "-mail-takes", "20ms")
	f.all = append(f.all, p)
	return p
}

// await waits for something, two minutes at most.
func (f *fleet) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			var logs strings.Builder
			for _, s := range f.slots {
				fmt.Fprintf(&logs, "%s:\n%s\n", s.p.name, s.p.log())
			}
			require.FailNow(t, "no "+what+" after two minutes", "%d orders unconfirmed\n%s", len(f.unconfirmed()), logs.String())
		}
	}
}

// place places an order, and repeats it with its key until the answer is 201.
func (f *fleet) place(ctx context.Context, url string) {
	key := rand.Text()
	for range 20 {
		id, err := func() (string, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/", bytes.NewReader([]byte(`{"description":"two coffees"}`)))
			if err != nil {
				return "", err
			}
			req.Header.Set("Idempotency-Key", key)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return "", err
			}
			defer res.Body.Close()
			var answer struct{ OrderID, Error string }
			if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusCreated {
				return "", fmt.Errorf("%d %s %w", res.StatusCode, answer.Error, err)
			}
			return answer.OrderID, nil
		}()
		f.mu.Lock()
		if err == nil {
			f.placed[id] = true
		} else {
			f.repeats++
		}
		f.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// unconfirmed are the orders that were answered with 201, and for which no worker has said that it confirmed them.
func (f *fleet) unconfirmed() map[string]bool {
	f.mu.Lock()
	missing := make(map[string]bool, len(f.placed))
	for id := range f.placed {
		missing[id] = true
	}
	f.mu.Unlock()
	for _, p := range f.all {
		for _, e := range p.journal() {
			delete(missing, e.OrderID)
		}
	}
	return missing
}

// storm strikes until ctx ends, and then lets every worker run again. At least one worker runs at any time, and all
// but one where strikes are to be apart.
func (f *fleet) storm(ctx context.Context, t *testing.T) {
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(f.random.Int64N(int64(high-low)))
	}
	next := time.Now()
	for ctx.Err() == nil {
		f.revive(t, time.Now())
		if time.Now().After(next) {
			next = time.Now().Add(between(f.lease/4, f.lease))
			f.strike(ctx, t, between)
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.revive(t, time.Now().Add(time.Hour))
}

func (f *fleet) strike(ctx context.Context, t *testing.T, between func(low, high time.Duration) time.Duration) {
	if f.stream != nil && f.random.IntN(3) == 0 {
		f.changeShards(ctx)
		return
	}
	down := 0
	for _, s := range f.slots {
		if s.struck != nil {
			down++
		}
	}
	s := &f.slots[f.random.IntN(len(f.slots))]
	if s.struck != nil || down == len(f.slots)-1 || f.apart && down > 0 {
		return
	}
	k := &strike{p: s.p}
	switch n := f.random.IntN(5); {
	case n < 2:
		k.kind, k.at = killed, time.Now()
		s.p.signal(t, syscall.SIGKILL)
		s.until = k.at.Add(between(0, 2*f.lease))
	case n < 4:
		k.kind, k.at = stopped, time.Now()
		s.p.signal(t, syscall.SIGSTOP)
		s.until = k.at.Add(between(f.lease*5/4, f.lease*2))
	default:
		k.kind, k.at = ended, time.Now()
		s.p.signal(t, syscall.SIGTERM)
		s.until = k.at.Add(between(0, f.lease))
	}
	s.struck = k
	f.strikes = append(f.strikes, k)
}

// revive lets those workers run again whose time has come.
func (f *fleet) revive(t *testing.T, now time.Time) {
	for i := range f.slots {
		s := &f.slots[i]
		if s.struck == nil || s.until.After(now) {
			continue
		}
		switch s.struck.kind {
		case stopped:
			s.p.signal(t, syscall.SIGCONT)
		case ended:
			s.p.requireGoodEnd(t)
			s.p = f.worker(t)
		default:
			<-s.p.gone
			s.p = f.worker(t)
		}
		s.struck.over = time.Now()
		s.struck = nil
	}
}
