package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// processesEach is how many workers each reader has.
const processesEach = 2

// world is the three services, their processes, and what is done to them.
type world struct {
	settings
	cloud    cloud
	db       *dynamodb.Client // of whoever sets up and checks: it is never killed
	streams  *kinesis.Client
	dice     *dice
	book     *book
	bank     *bank
	labels   *labels
	orders   service
	readers  []*reader
	couriers map[service]*courier
	tapes    map[*reader]*tape
	open     map[*reader][]place // records that were not handled when they were last looked at
	storming atomic.Bool

	mu    sync.Mutex
	lives map[*life]bool
	kills map[string]int
	err   error // the first one that nothing goes on after

	opening sync.Mutex
	front   *front // the process of the orders service
}

func newWorld(set settings, c cloud) *world {
	w := &world{
		settings: set, cloud: c, db: dynamodb.NewFromConfig(c.clean), streams: kinesis.NewFromConfig(c.clean), dice: newDice(set.seed),
		book: newBook(), bank: &bank{}, labels: &labels{}, orders: service{set.prefix, "orders"}, lives: make(map[*life]bool), kills: make(map[string]int),
		couriers: make(map[service]*courier), tapes: make(map[*reader]*tape), open: make(map[*reader][]place),
	}
	payments, shipments := service{set.prefix, "payments"}, service{set.prefix, "shipments"}
	w.readers = []*reader{
		{"payments", payments, w.orders, set.arrival, func(c *outbox.Consumer, wr *outbox.Writer, _ *life) { set.takePayments(c, wr, payments, w.bank) }},
		{"shipments", shipments, payments, set.arrival, func(c *outbox.Consumer, wr *outbox.Writer, _ *life) { sendShipments(c, wr, shipments) }},
		{"labels", shipments, shipments, set.arrival, func(c *outbox.Consumer, _ *outbox.Writer, l *life) { printLabels(c, mortalProvider{l, w.labels}) }},
	}
	for _, r := range w.readers {
		w.tapes[r] = &tape{streams: w.streams, stream: r.reads.stream()}
		if c.couriers {
			from := &tape{streams: w.streams, stream: r.reads.stream() + "-changes"}
			w.couriers[r.reads] = &courier{from: from, to: r.reads.stream(), dice: w.dice, on: &w.storming, twice: c.twice}
		}
	}
	return w
}

// create makes the tables and streams. remove must be called in any case.
func (w *world) create(ctx context.Context) (remove func(context.Context) error, err error) {
	c := &creator{db: w.db, streams: w.streams}
	for key, r := range map[string]*reader{"orderId": w.readers[0], "paymentId": w.readers[1], "shipmentId": w.readers[2]} {
		carriedTo := r.reads.stream()
		if courier := w.couriers[r.reads]; courier != nil {
			carriedTo = courier.from.stream
		}
		if err := c.service(ctx, r.reads, key, carriedTo); err != nil {
			return c.remove, err
		}
	}
	if err := c.table(ctx, w.readers[0].service.accounts(), "customerId"); err != nil {
		return c.remove, err
	}
	for _, r := range w.readers[:2] { // the labels are the shipments service's
		if err := c.handling(ctx, r.service); err != nil {
			return c.remove, err
		}
	}
	return c.remove, nil
}

// run places orders in a storm, waits until everything has been handled, and returns what became of it.
func (w *world) run(ctx context.Context) (*report, error) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	w.storming.Store(true) // before a process is born: who is born in a calm is never killed
	var processes sync.WaitGroup
	for _, r := range w.readers {
		for range processesEach {
			processes.Go(func() { w.keepRunning(working, r) })
		}
		if c := w.couriers[r.reads]; c != nil {
			processes.Go(func() { c.run(working) })
		}
	}
	err := w.cloud.storm()
	if err == nil {
		w.placeOrders(ctx)
		w.cloud.calm()
		w.spare()
		w.bank.repair()
		err = w.settle(ctx)
	}
	stop()
	processes.Wait()
	reported, failed := w.report(ctx)
	return reported, errors.Join(err, w.failed(), failed)
}

// keepRunning runs a process of a reader, and another one whenever one was killed.
func (w *world) keepRunning(ctx context.Context, r *reader) {
	var dying sync.WaitGroup // what a dead process still does reaches nobody, so the next one does not wait for it
	defer dying.Wait()
	for ctx.Err() == nil {
		alive, end := context.WithCancel(ctx)
		l := w.born(end)
		ended := make(chan struct{})
		dying.Go(func() {
			defer close(ended)
			if err := r.run(alive, w.cloud.stormy, l, w.book); err != nil && !l.over() {
				w.fail(fmt.Errorf("%s: %w", r.name, err))
			}
		})
		select {
		case <-alive.Done():
		case <-ended:
		}
		end()
		w.buried(r.name, l)
		if w.failed() != nil {
			return
		}
	}
}

// born returns the life of a new process. end is called when it is killed.
func (w *world) born(end func()) *life {
	l := w.dice.life(end)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives[l] = true
	if !w.storming.Load() {
		l.spare()
	}
	return l
}

// buried says that a process has ended.
func (w *world) buried(name string, l *life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lives, l)
	if l.over() {
		w.kills[name]++
	}
}

// spare ends the killing.
func (w *world) spare() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.storming.Store(false)
	for l := range w.lives {
		l.spare()
	}
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *world) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// front is the process of the orders service.
type front struct {
	life   *life
	writer *outbox.Writer
}

// ordersService returns the process that runs now, a new one if the last one was killed.
func (w *world) ordersService() (*front, error) {
	w.opening.Lock()
	defer w.opening.Unlock()
	if w.front != nil {
		if !w.front.life.over() {
			return w.front, nil
		}
		w.buried("orders", w.front.life)
	}
	cfg := w.cloud.stormy
	l := w.born(func() {})
	cfg.HTTPClient = mortal{l, cfg.HTTPClient}
	writer, err := outbox.NewWriter(dynamodb.NewFromConfig(cfg), w.orders.events())
	if err != nil {
		return nil, err
	}
	w.front = &front{l, writer}
	return w.front, nil
}

// placeOrders lets customers place the orders, spread over the time of the storm. A customer without a confirmation asks again.
func (w *world) placeOrders(ctx context.Context) {
	next := make(chan int)
	var customers sync.WaitGroup
	for c := range 8 {
		customers.Go(func() {
			number := int64(0)
			for n := range next {
				number++
				o := order{OrderID: fmt.Sprintf("order-%04d", n), CustomerID: fmt.Sprint("customer-", c), Number: number, PlacedAt: time.Now(), Cents: 100 + n}
				for ctx.Err() == nil && w.failed() == nil {
					f, err := w.ordersService()
					if err == nil {
						err = placeOrder(ctx, w.orders, f.writer, o)
					}
					if err == nil {
						break
					}
					sleep(ctx, 50*time.Millisecond)
				}
			}
		})
	}
	for n := range w.size {
		next <- n
		sleep(ctx, w.storms/time.Duration(w.size))
		if n == w.size/2 && w.early {
			w.bank.repair()
			_ = w.redrive(ctx) // what fails here is asked for again after the storm
		}
	}
	close(next)
	customers.Wait()
}

// redrive asks the workers to handle their dead letters again.
func (w *world) redrive(ctx context.Context) error {
	for _, r := range w.readers {
		letters, err := r.letters(w.db)
		if err == nil {
			_, err = letters.RequestRedrive(ctx, outbox.DeadLetterFilter{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until every order has a label, nothing is on its way, and every record of every stream was handled.
func (w *world) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	waitingFor := "the first look"
	for ; ctx.Err() == nil && w.failed() == nil; sleep(ctx, time.Second) {
		var err error
		if waitingFor, err = w.unsettled(ctx); err != nil {
			return err
		}
		if waitingFor == "" {
			return nil
		}
	}
	return fmt.Errorf("gave up waiting for %s", waitingFor)
}

func (w *world) unsettled(ctx context.Context) (string, error) {
	if n, err := w.lettersLeft(ctx); n > 0 || err != nil {
		return fmt.Sprintf("%d dead letters", n), errors.Join(err, w.redrive(ctx))
	}
	if n := len(w.labels.byOrder()); n < w.size {
		return fmt.Sprintf("the labels of %d orders", w.size-n), nil
	}
	if err := w.cloud.drain(ctx); err != nil {
		return "", err
	}
	for s, c := range w.couriers {
		events, err := countBy(ctx, w.db, s.events(), "eventId")
		if err != nil {
			return "", err
		}
		if have := int(c.carried.Load()); have != len(events) {
			return fmt.Sprintf("%d records of %s", len(events)-have, s.name), nil
		}
	}
	for _, r := range w.readers {
		n, err := w.unhandled(ctx, r)
		if n > 0 || err != nil {
			return fmt.Sprintf("%d records to be handled by %s", n, r.name), err
		}
	}
	return "", nil
}

// unhandled counts the records of its stream that a reader has not handled yet.
func (w *world) unhandled(ctx context.Context, r *reader) (int, error) {
	arrived, err := w.tapes[r].read(ctx)
	for _, a := range arrived {
		w.open[r] = append(w.open[r], a.place)
	}
	w.open[r] = slices.DeleteFunc(w.open[r], func(p place) bool { return w.book.isSettled(r.name, p) })
	return len(w.open[r]), err
}

func (w *world) lettersLeft(ctx context.Context) (n int, err error) {
	for _, r := range w.readers {
		letters, err := r.letters(w.db)
		if err != nil {
			return 0, err
		}
		for _, err := range letters.List(ctx, outbox.DeadLetterFilter{}) {
			if err != nil {
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

// report looks at the tables.
func (w *world) report(ctx context.Context) (*report, error) {
	rep := &report{events: make(map[string]map[string]int), placed: make(map[string]int), accounts: make(map[string][]int64), labels: w.labels.byOrder(), labelCalls: w.labels.calls,
		duplicates: w.book.duplicates(), deadLetters: len(w.book.deadLetters), kills: w.kills, faults: w.cloud.struck()}
	orders, err := scan[order](ctx, w.db, w.orders.rows())
	if err != nil {
		return nil, err
	}
	byEvent := make(map[string]string)
	for _, o := range orders {
		rep.orders = append(rep.orders, o.OrderID)
		rep.placed[o.CustomerID]++
		byEvent[outbox.SequencedID(o.CustomerID, o.Number)] = o.OrderID
	}
	slices.Sort(rep.orders)
	accounts, err := scan[account](ctx, w.db, w.readers[0].service.accounts())
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		rep.accounts[a.CustomerID] = a.Numbers
	}
	if rep.payments, err = countBy(ctx, w.db, w.readers[0].service.rows(), "orderId"); err != nil {
		return nil, err
	}
	if rep.shipments, err = countBy(ctx, w.db, w.readers[1].service.rows(), "orderId"); err != nil {
		return nil, err
	}
	for _, r := range w.readers {
		events, err := countBy(ctx, w.db, r.reads.events(), "eventId")
		if err != nil {
			return nil, err
		}
		counts := make(map[string]int)
		for id := range events {
			counts[cmp.Or(byEvent[id], id)]++
		}
		rep.events[r.reads.name] = counts
	}
	rep.letters, err = w.lettersLeft(ctx)
	return rep, err
}
