package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// Mail is a mail that was sent.
type Mail struct {
	EventID string `json:"eventId"`
	OrderID string `json:"orderId"`
	Text    string `json:"text"`
}

// mailbox stands in for a mail provider. Like a good one it takes an idempotency key, the event's id, and sends only one
// mail for each: an event may be delivered more than once. It is safe for concurrent use.
type mailbox struct {
	takes time.Duration                     // for each mail
	told  func(context.Context, Mail) error // hears of every confirmation, repeated or not; may be nil
	seen  func(context.Context, string)     // gets the text of every mail that was sent; may be nil
	most  int                               // how many mails, and ids of their events, it remembers; 0 is all

	mu    sync.Mutex
	mails []Mail // the oldest first
	sent  map[string]bool
}

const (
	mailsKept  = 10_000
	mailsShown = 1000
)

// Confirm implements service.Mailer.
func (m *mailbox) Confirm(ctx context.Context, key string, order service.OrderCreated) error {
	return m.send(ctx, Mail{EventID: key, OrderID: order.OrderID, Text: "Thank you for your order: " + order.Description})
}

// Changed implements service.Mailer.
func (m *mailbox) Changed(ctx context.Context, key string, order service.OrderChanged) error {
	return m.send(ctx, Mail{EventID: key, OrderID: order.OrderID, Text: "Your order is now: " + order.Description})
}

func (m *mailbox) send(ctx context.Context, mail Mail) error {
	if m.takes > 0 {
		sleep(ctx, m.takes)
		if ctx.Err() != nil {
			return context.Cause(ctx) // nothing was sent
		}
	}
	if m.told != nil {
		if err := m.told(ctx, mail); err != nil {
			return err
		}
	}
	if m.keep(mail) {
		slog.InfoContext(ctx, "mail sent", "order", mail.OrderID)
		if m.seen != nil {
			m.seen(ctx, mail.Text)
		}
	}
	return nil
}

// keep reports whether the mail was not sent before.
func (m *mailbox) keep(mail Mail) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent[mail.EventID] {
		return false
	}
	if m.sent == nil {
		m.sent = make(map[string]bool)
	}
	m.sent[mail.EventID] = true
	m.mails = append(m.mails, mail)
	if m.most > 0 && len(m.mails) > m.most {
		delete(m.sent, m.mails[0].EventID)
		m.mails = m.mails[1:]
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// latest returns the last mails, at most so many. It is never nil: in JSON, no mails are [].
func (m *mailbox) latest(most int) []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Mail{}, m.mails[max(0, len(m.mails)-most):]...)
}
