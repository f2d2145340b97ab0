package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// Mail is a confirmation that was sent.
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

	mu    sync.Mutex
	mails []Mail
	sent  map[string]bool
}

// Confirm implements service.Mailer.
func (m *mailbox) Confirm(ctx context.Context, key string, order service.OrderCreated) error {
	if m.takes > 0 {
		sleep(ctx, m.takes)
		if ctx.Err() != nil {
			return context.Cause(ctx) // nothing was sent
		}
	}
	mail := Mail{EventID: key, OrderID: order.OrderID, Text: "Thank you for your order: " + order.Description}
	if m.told != nil {
		if err := m.told(ctx, mail); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent[key] {
		return nil
	}
	if m.sent == nil {
		m.sent = make(map[string]bool)
	}
	m.sent[key] = true
	m.mails = append(m.mails, mail)
	slog.InfoContext(ctx, "confirmation sent", "order", order.OrderID)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (m *mailbox) all() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Mail{}, m.mails...) // never nil, so that no mail is [] in JSON
}
