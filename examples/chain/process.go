package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// errKilled is what a process that was killed gets of every request. Nobody sees it but the process itself.
var errKilled = errors.New("this process was killed")

// life is that of a process, which is killed at one of its requests: that one still arrives, or not; its answer and all later requests
// do not. So nothing that it still does has any effect, as if it did nothing. It is safe for concurrent use.
type life struct {
	mu      sync.Mutex
	left    int // requests; below 0 it lives for ever
	arrives bool
	dead    bool
	end     func() // called when it dies
}

// request counts a request and says what becomes of it.
func (l *life) request() (arrives bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return false
	}
	if l.left > 0 {
		l.left--
	}
	if l.left == 0 {
		l.dead = true
		l.end()
		return l.arrives
	}
	return true
}

func (l *life) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// spare lets a process live that has not died yet.
func (l *life) spare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = -1
}

// mortal is the HTTP client of a process.
type mortal struct {
	life *life
	next aws.HTTPClient
}

func (m mortal) Do(r *http.Request) (*http.Response, error) {
	if !m.life.request() {
		return nil, errKilled
	}
	res, err := m.next.Do(r)
	if m.life.over() {
		if err == nil {
			_ = res.Body.Close()
		}
		return nil, errKilled
	}
	return res, err
}

// mortalProvider is the provider as a process reaches it.
type mortalProvider struct {
	life *life
	next provider
}

func (m mortalProvider) Label(ctx context.Context, key, orderID string) error {
	if !m.life.request() {
		return errKilled
	}
	err := m.next.Label(ctx, key, orderID)
	if m.life.over() {
		return errKilled
	}
	return err
}

// reader is a kind of worker: a service that handles the events of another, in any number of processes.
type reader struct {
	name     string  // in the inbox, the dead letters and the leases
	service  service // whose tables it uses
	reads    service // whose stream
	arrival  bool    // events are handled as they come, not in the order of their sequences
	register func(*outbox.Consumer, *outbox.Writer, *life)
}

// run is a process, until it is killed or ctx ends.
func (r *reader) run(ctx context.Context, cfg aws.Config, l *life, book *book) error {
	cfg.HTTPClient = mortal{l, cfg.HTTPClient}
	db := dynamodb.NewFromConfig(cfg)
	inbox, err := outbox.NewInbox(db, r.service.inbox(), r.name, outbox.WithClaimDuration(5*time.Second))
	if err != nil {
		return err
	}
	letters, err := r.letters(db)
	if err != nil {
		return err
	}
	opts := []outbox.ConsumerOption{outbox.WithTables(r.reads.events()), outbox.WithDeadLetters(letters),
		outbox.WithInbox(inbox, ShipmentSent{}.EventType()), // the guarded one
		outbox.WithConsumerHooks(book.hooks(r.name))}
	if !r.arrival {
		opts = append(opts, outbox.WithOrder(db, r.reads.events(), time.Time{})) // from each customer's first order on
	}
	consumer, err := outbox.NewConsumer(opts...)
	if err != nil {
		return err
	}
	writer, err := outbox.NewWriter(db, r.service.events())
	if err != nil {
		return err
	}
	r.register(consumer, writer, l)
	leases, err := outbox.NewLeaseTable(db, r.service.leases(), r.name)
	if err != nil {
		return err
	}
	worker, err := outbox.NewWorker(kinesis.NewFromConfig(cfg), r.reads.stream(), consumer, leases, outbox.WithLeaseDuration(time.Second),
		outbox.WithPollInterval(200*time.Millisecond), outbox.WithDrainTimeout(time.Second),
		outbox.WithHandlerRetry(outbox.Retry{BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second}))
	if err != nil {
		return err
	}
	return worker.Run(ctx)
}

func (r *reader) letters(db *dynamodb.Client) (*outbox.DeadLetterTable, error) {
	return outbox.NewDeadLetterTable(db, r.service.letters(), r.name)
}
