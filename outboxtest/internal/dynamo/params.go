package dynamo

import (
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// param is one parameter of a request that may be there.
type param struct {
	name  string
	given bool
}

// expression is one expression parameter.
type expression struct {
	kind string
	text *string
}

func (e expression) given() bool { return e.text != nil }

// checkParams checks which parameters go together: expressions not with the parameters that they
// replaced, and placeholders only with expressions.
func (e *expressions) checkParams(all []expression, legacy []param) error {
	var given, old, valued []string
	for _, x := range all {
		if x.given() {
			given = append(given, x.kind)
		}
		if x.kind != expr.Projection {
			valued = append(valued, x.kind)
		}
	}
	for _, p := range legacy {
		if p.given {
			old = append(old, p.name)
		}
	}
	if len(given) > 0 && len(old) > 0 {
		return wire.CountedValidation("Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {" +
			strings.Join(old, ", ") + "} Expression parameters: {" + strings.Join(given, ", ") + "}")
	}
	if e.ExpressionAttributeNames != nil && len(given) == 0 {
		return wire.CountedValidation("ExpressionAttributeNames can only be specified when using expressions")
	}
	usable := slices.ContainsFunc(all, func(x expression) bool { return x.kind != expr.Projection && x.given() })
	if e.ExpressionAttributeValues != nil && len(valued) > 0 && !usable {
		verb := " is null"
		if len(valued) > 1 {
			verb = " are null"
		}
		const message = "ExpressionAttributeValues can only be specified when using expressions"
		e := wire.CountedValidation(message + ": " + strings.Join(valued, " and ") + verb)
		if valued[len(valued)-1] == expr.Condition { // a write
			e.Message, e.Older = message, e.Message
		}
		return e
	}
	return nil
}

// scope checks the placeholders; operand makes their values.
func (e *expressions) scope(operand func(attr.Raw) (attr.Value, error)) (*expr.Scope, error) {
	// The spelling of all placeholders is looked at before any value.
	if _, err := expr.NewScope(e.ExpressionAttributeNames, nil); err != nil {
		return nil, err
	}
	if err := expr.CheckValueNames(e.ExpressionAttributeValues); err != nil {
		return nil, err
	}
	values, err := e.values(operand)
	if err != nil {
		return nil, err
	}
	return expr.NewScope(e.ExpressionAttributeNames, values)
}

func (e *expressions) values(operand func(attr.Raw) (attr.Value, error)) (map[string]attr.Value, error) {
	if e.ExpressionAttributeValues == nil {
		return nil, nil
	}
	values := make(map[string]attr.Value, len(e.ExpressionAttributeValues))
	for name, raw := range e.ExpressionAttributeValues {
		v, err := operand(raw)
		if err != nil {
			return nil, invalidValue(wire.AsError(err), name)
		}
		values[name] = v
	}
	return values, nil
}

// invalidValue is the fault of a placeholder's value. The older validation names the placeholder
// always, the newer only where the value is no value at all.
func invalidValue(fault *wire.Error, placeholder string) error {
	wrap := func(message string) string {
		return "ExpressionAttributeValues contains invalid value: " + message + " for key " + placeholder
	}
	e := *fault
	if e.Older == "" {
		e.Older = e.Message
	}
	e.Older = wrap(e.Older)
	if !e.Counted {
		e.Message = wrap(e.Message)
	}
	return &e
}

// itemOf checks the values of an item or key.
func itemOf(raw map[string]attr.Raw) (attr.Item, error) {
	for name := range raw {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	return attr.Items(raw)
}

// checkName checks an attribute's name.
func checkName(name string) error {
	switch {
	case name == "":
		return &wire.Error{Code: wire.CodeValidation, Message: invalidParameters + "Empty attribute name", Older: "Empty attribute name"}
	case len(name) > 65535:
		return wire.Validation("One or more parameter values were invalid: Attribute name is too large, must be less than 65536 bytes")
	}
	return nil
}

// checkScalars refuses paths into key attributes: keys are scalars.
func (t *table) checkScalars(heads map[string]bool) error {
	const message = "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: "
	for _, a := range t.key.attrs() {
		if heads[a.name] {
			return wire.Validation(message + "Key: " + a.name)
		}
	}
	for _, i := range t.indexes() {
		for _, a := range i.key.attrs() {
			if heads[a.name] {
				return wire.Validation(message + "IndexKey: " + a.name)
			}
		}
	}
	return nil
}

// nested turns paths into what checkScalars takes.
func nested(paths ...expr.Path) map[string]bool {
	heads := make(map[string]bool)
	for _, p := range paths {
		heads[p.Head()] = heads[p.Head()] || p.Nested()
	}
	return heads
}
