package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// writeKind tells the four things that a write can do.
type writeKind uint8

const (
	writePut writeKind = iota
	writeUpdate
	writeDelete
	writeCheck
)

const (
	messageTooBig       = "Item size has exceeded the maximum allowed size"
	messageUpdateTooBig = "Item size to update has exceeded the maximum allowed size"
)

// write is one write to one item, checked as far as it can be without the table.
type write struct {
	kind   writeKind
	table  string
	item   attr.Item // the item of a put, the key otherwise
	cond   *expr.Cond
	update *expr.Upd
	// returnOld asks for the item when the condition fails.
	returnOld bool
	// inTransaction is set where only the size of the item counts, not that of the update.
	inTransaction bool
}

// outcome is what a write will do once it is committed.
type outcome struct {
	t    *table
	old  *record
	next attr.Item
}

func (o outcome) oldItem() attr.Item {
	if o.old == nil {
		return nil
	}
	return o.old.item
}

// check checks the write against the table's schema.
func (w *write) check(t *table) error {
	if w.kind == writePut {
		if err := t.checkItem(w.item); err != nil {
			return err
		}
	} else if err := t.key.checkKey(w.item); err != nil {
		return err
	}
	if w.update != nil {
		if err := t.checkTargets(w.update); err != nil {
			return err
		}
	}
	if w.cond != nil {
		return t.checkScalars(w.cond.Heads())
	}
	return nil
}

// checkTargets checks what an update does to the attributes that are keys.
func (t *table) checkTargets(u *expr.Upd) error {
	for _, a := range t.key.attrs() {
		for _, p := range u.Paths() {
			if p.Head() == a.name {
				return wire.Validation("One or more parameter values were invalid: Cannot update attribute " + a.name + ". This attribute is part of the key")
			}
		}
	}
	for _, i := range t.indexes() {
		for _, a := range i.key.attrs() {
			if kind := u.Assigned(a.name); kind != attr.KindNone && kind != a.kind {
				return i.mismatch(a, kind)
			}
		}
	}
	return t.checkScalars(nested(append(u.Paths(), u.Reads()...)...))
}

// evaluate tests the condition and finds out what the write does. Nothing is changed.
func (w *write) evaluate(t *table) (outcome, error) {
	o := outcome{t: t, old: t.items[t.key.place(w.item)]}
	// Outside of transactions AWS measures an update by itself, before anything else.
	if w.update != nil && !w.inTransaction && w.update.Charge() > maxItemSize {
		return o, wire.Validation(messageUpdateTooBig)
	}
	if w.cond != nil && !w.cond.Match(o.oldItem()) {
		e := wire.Errorf("ConditionalCheckFailedException", "The conditional request failed")
		if w.returnOld && o.old != nil {
			e.Fields = map[string]any{"Item": o.old.item}
		}
		return o, e
	}
	switch w.kind {
	case writePut:
		o.next = w.item
	case writeCheck:
		o.next = o.oldItem()
	case writeUpdate:
		return o, w.evaluateUpdate(&o)
	}
	return o, nil
}

func (w *write) evaluateUpdate(o *outcome) error {
	base := o.oldItem()
	if base == nil {
		base = w.item
	}
	o.next = base
	if w.update == nil {
		return nil
	}
	next, err := w.update.Apply(base, o.old != nil)
	if err != nil {
		return err
	}
	if o.old == nil && w.update.OnlyClears() {
		// There is nothing to remove anything from, and nothing that would make an item.
		o.next = nil
		return nil
	}
	if err := o.t.checkUpdated(base, next); err != nil {
		return err
	}
	switch deep := attr.TooDeep(next); {
	case deep && w.inTransaction:
		return wire.Validation(attr.MessageTooDeepShort)
	case deep:
		return wire.Validation(attr.MessageTooDeep)
	}
	if attr.ItemSize(next) > maxItemSize {
		return wire.Validation(messageUpdateTooBig)
	}
	o.next = next
	return nil
}

// one performs a single write.
func (db *DB) one(w *write) (outcome, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forItems(w.table)
	if err != nil {
		return outcome{}, err
	}
	if err := w.check(t); err != nil {
		return outcome{}, err
	}
	o, err := w.evaluate(t)
	if err != nil {
		return outcome{}, err
	}
	db.commit(t, o.old, o.next, false)
	return o, nil
}

// parse checks the condition and the update of a write. legacy tells which parameters of the old
// kind came along.
func (c *conditional) parse(w *write, update *string, hasUpdate bool, legacy []param) error {
	var all []expression
	if hasUpdate {
		all = append(all, expression{expr.Update, update})
	}
	all = append(all, expression{expr.Condition, c.ConditionExpression})
	if err := c.checkParams(all, legacy); err != nil {
		return err
	}
	w.returnOld = str(c.ReturnValuesOnConditionCheckFailure) == "ALL_OLD"
	return nil
}

// parseExpressions parses the expressions of a write.
func (c *conditional) parseExpressions(w *write, update *string) error {
	operand := attr.Raw.Value
	if w.inTransaction {
		operand = attr.Raw.Operand
	}
	s, err := c.scope(operand)
	if err != nil {
		return err
	}
	if update != nil {
		if w.update, err = expr.ParseUpdate(*update, s); err != nil {
			return err
		}
	}
	if c.ConditionExpression != nil {
		if w.cond, err = expr.ParseCondition(expr.Condition, *c.ConditionExpression, s); err != nil {
			return err
		}
	}
	return s.Unused()
}
