// Package page is the page of the local order service. It shows what becomes of each order: the transaction, the change record, the
// handler, the mail. It can deliver an event again, or lose one, place an order whose mail is refused, and redrive what became a dead letter.
// It is for a service with an AWS of its own; it must not be served where others can reach it.
package page

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

//go:embed index.html page.css page.js plain.html
var files embed.FS

// Page is the page with the consumer that it shows. It is safe for concurrent use.
type Page struct {
	config   service.Config
	kinesis  *kinesis.Client
	feed     *feed
	watch    *watch
	stream   *stream
	provider *provider
	loseNext func() error
	consumer *outbox.Consumer
	letters  *outbox.DeadLetterTable
}

// What the page keeps and allows.
const (
	stepsKept = 2000 // a poison order with two changes makes about 30
	heartbeat = 15 * time.Second
	patience  = 5 * time.Second
	watchers  = 50
)

// New creates the inbox and the dead letter table, unless they exist, and returns the page with a consumer that uses both. Of the
// configuration it needs all tables and the stream. loseNext makes the AWS lose the next change record.
func New(ctx context.Context, db *dynamodb.Client, streams *kinesis.Client, c service.Config, mails service.Mailer, loseNext func() error) (*Page, error) {
	f := newFeed(stepsKept)
	w := newWatch(f)
	p := &Page{
		config: c, kinesis: streams, feed: f, watch: w, stream: newStream(f, heartbeat, patience, watchers),
		provider: &provider{Mailer: mails, watch: w}, loseNext: loseNext,
	}
	inbox, err := outbox.NewInbox(db, c.InboxTable, service.Group, outbox.WithInboxTTL(service.MarksKept))
	if err != nil {
		return nil, err
	}
	if p.letters, err = outbox.NewDeadLetterTable(db, c.DeadLettersTable, service.Group); err != nil {
		return nil, err
	}
	if err := errors.Join(inbox.Create(ctx), p.letters.Create(ctx)); err != nil {
		return nil, err
	}
	p.consumer, err = outbox.NewConsumer(outbox.WithTables(c.EventsTable), outbox.WithInbox(inbox), outbox.WithDeadLetters(p.letters),
		service.InOrder(db, c), outbox.WithMiddleware(w.middleware), outbox.WithConsumerHooks(outbox.ConsumerHooks{DeadLettered: w.deadLettered}))
	if err != nil {
		return nil, err
	}
	service.ConfirmOrders(p.consumer, p.provider)
	return p, nil
}

// Consumer returns what is to be invoked with the records of the stream.
func (p *Page) Consumer() *outbox.Consumer { return p.consumer }

// WriterOption lets the page see what a Writer writes.
func (p *Page) WriterOption() outbox.WriterOption {
	return outbox.WithWriterHooks(outbox.WriterHooks{Written: p.watch.written})
}

// MailSent shows that a mail was sent. ctx is the handler's.
func (p *Page) MailSent(ctx context.Context, text string) { p.watch.inHandler(ctx, Mailed, text) }

// Close ends the streams of all who watch. The server's Shutdown waits for them.
func (p *Page) Close() { p.stream.close() }

// policy lets the page load and reach nothing but what this server serves.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Handler serves the page, and passes on to next what it does not know. Other sites' pages cannot make a browser change anything.
func (p *Page) Handler(next http.Handler) (http.Handler, error) {
	mux := http.NewServeMux()
	for path, name := range map[string]string{"/{$}": "index.html", "/page.css": "page.css", "/page.js": "page.js"} {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		mux.HandleFunc("GET "+path, asset(name, content))
	}
	mux.Handle("POST /{$}", place(next))
	for route, handle := range map[string]http.HandlerFunc{
		"GET /favicon.ico":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"GET /watch":              p.stream.ServeHTTP,
		"POST /events/{id}/again": p.again,
		"POST /lose":              p.lose,
		"POST /poison":            p.poison(next),
		"POST /redrive":           p.redrive,
		"GET /orders/{id}/steps":  p.steps,
	} {
		service.Handle(mux, route, handle)
	}
	mux.Handle("/", next)
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		service.Answer(w, http.StatusForbidden, service.Problem{Error: "the page of another site may not change anything here"})
	}))
	return protection.Handler(mux), nil
}

func asset(name string, content []byte) http.HandlerFunc {
	types := map[string]string{"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
	return func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), headers(types[name]))
		_, _ = w.Write(content)
	}
}

// headers are those of everything that a browser shows or runs.
func headers(kind string) http.Header {
	return http.Header{
		"Content-Type":            {kind + "; charset=utf-8"},
		"Content-Security-Policy": {policy},
		"X-Content-Type-Options":  {"nosniff"},
		"Referrer-Policy":         {"no-referrer"},
		"Cache-Control":           {"no-cache"},
	}
}
