package page

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// RefusedAddress is where the mail provider sends no mail to, until it is repaired.
const RefusedAddress = "refused@example.com"

// provider is a mail provider that may be in need of repair.
type provider struct {
	service.Mailer
	watch    *watch
	repaired atomic.Bool
}

// Confirm implements service.Mailer.
func (p *provider) Confirm(ctx context.Context, key string, order service.OrderCreated) error {
	p.watch.inHandler(ctx, Started, "")
	if order.Email == RefusedAddress && !p.repaired.Load() {
		return outbox.Permanent(errors.New("the mail provider refuses the address for good"))
	}
	return p.Mailer.Confirm(ctx, key, order)
}

// Changed implements service.Mailer.
func (p *provider) Changed(ctx context.Context, key string, order service.OrderChanged) error {
	p.watch.inHandler(ctx, Started, "")
	return p.Mailer.Changed(ctx, key, order)
}
