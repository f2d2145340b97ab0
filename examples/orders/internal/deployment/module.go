package deployment

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// module evaluates a Terraform module, as far as that goes without a provider: what a resource makes up itself, such as an ARN, is
// made of its name.
type module struct {
	variables map[string]cty.Value
	locals    map[string]hcl.Expression
	values    map[string]cty.Value // of the locals that are known
	resources []*resource
	outputs   []*hclsyntax.Block
	problems  []error
}

// resource is a block, of which there may be any number of instances.
type resource struct {
	kind, name string
	body       *hclsyntax.Body
	instances  []instance
	known      bool
	many       bool // it has count or for_each
}

type instance struct {
	key, value cty.Value // of for_each
	attributes map[string]cty.Value
}

func newModule(files map[string][]byte, variables map[string]cty.Value) (*module, error) {
	m := &module{variables: map[string]cty.Value{}, locals: map[string]hcl.Expression{}, values: map[string]cty.Value{}}
	given := maps.Clone(variables)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file, diagnostics := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos)
		if diagnostics.HasErrors() {
			return nil, diagnostics
		}
		for _, b := range file.Body.(*hclsyntax.Body).Blocks {
			switch b.Type {
			case "variable":
				v, ok := given[b.Labels[0]]
				if fallback := b.Body.Attributes["default"]; !ok && fallback != nil {
					v, ok = m.evaluate(fallback.Expr, nil), true
				}
				if !ok {
					m.fail("variable %s has no value", b.Labels[0])
				}
				m.variables[b.Labels[0]] = v
				delete(given, b.Labels[0])
			case "locals":
				for name, a := range b.Body.Attributes {
					m.locals[name] = a.Expr
				}
			case "resource":
				m.resources = append(m.resources, &resource{kind: b.Labels[0], name: b.Labels[1], body: b.Body})
			case "output":
				m.outputs = append(m.outputs, b)
			case "terraform", "data":
			default:
				m.fail("%s: the contract test does not know blocks of type %s", name, b.Type)
			}
		}
	}
	for name := range given {
		m.fail("there is no variable %s", name)
	}
	m.resolve()
	return m, errors.Join(m.problems...)
}

func (m *module) fail(format string, args ...any) {
	m.problems = append(m.problems, fmt.Errorf(format, args...))
}

// resolve evaluates locals and names until all are known: they refer to each other.
func (m *module) resolve() {
	for progress := true; progress; {
		progress = false
		for name, e := range m.locals {
			if _, known := m.values[name]; known {
				continue
			}
			if v, diagnostics := e.Value(m.context(nil)); !diagnostics.HasErrors() && v.IsWhollyKnown() {
				m.values[name], progress = v, true
			}
		}
		for _, r := range m.resources {
			if !r.known && m.instances(r) {
				r.known, progress = true, true
			}
		}
	}
	for name, e := range m.locals {
		if _, known := m.values[name]; !known {
			m.evaluate(e, nil) // says why
		}
	}
	for _, r := range m.resources {
		if !r.known {
			m.fail("%s.%s cannot be evaluated", r.kind, r.name)
		}
	}
}

// instances finds out how many instances a resource has, and what others can know of them.
func (m *module) instances(r *resource) bool {
	all := []instance{{}}
	if count := r.body.Attributes["count"]; count != nil {
		v, diagnostics := count.Expr.Value(m.context(nil))
		if diagnostics.HasErrors() {
			return false
		}
		n, _ := v.AsBigFloat().Int64()
		all, r.many = make([]instance, n), true
	}
	if each := r.body.Attributes["for_each"]; each != nil {
		v, diagnostics := each.Expr.Value(m.context(nil))
		if diagnostics.HasErrors() {
			return false
		}
		all, r.many = nil, true
		for k, v := range v.AsValueMap() {
			all = append(all, instance{key: cty.StringVal(k), value: v})
		}
	}
	for i := range all {
		name := "made-up-" + r.name
		for _, attribute := range []string{"name", "function_name"} {
			if a := r.body.Attributes[attribute]; a != nil {
				v, diagnostics := a.Expr.Value(m.context(&all[i]))
				if diagnostics.HasErrors() {
					return false
				}
				name = v.AsString()
			}
		}
		all[i].attributes = madeUp(r.kind, name)
	}
	r.instances = all
	return true
}

// madeUp is what a provider would compute.
func madeUp(kind, name string) map[string]cty.Value {
	arns := map[string]string{
		"aws_dynamodb_table": arn("dynamodb", "table/"+name), "aws_kinesis_stream": arn("kinesis", "stream/"+name), "aws_sqs_queue": arn("sqs", name),
		"aws_lambda_function": arn("lambda", "function:"+name), "aws_iam_role": arn("iam", "role/"+name), "aws_iam_policy": arn("iam", "policy/"+name),
		"aws_cloudwatch_log_group": arn("logs", "log-group:"+name), "aws_cloudwatch_event_rule": arn("events", "rule/"+name),
	}
	attributes := map[string]cty.Value{"id": cty.StringVal(name), "name": cty.StringVal(name)}
	if a, known := arns[kind]; known {
		attributes["arn"] = cty.StringVal(a)
	}
	switch kind {
	case "aws_lambda_function":
		attributes["function_name"] = cty.StringVal(name)
	case "aws_apigatewayv2_api":
		attributes["execution_arn"], attributes["api_endpoint"] = cty.StringVal(arn("execute-api", name)), cty.StringVal("https://"+name)
	case "aws_lambda_event_source_mapping":
		attributes["uuid"] = cty.StringVal("uuid-of-" + name)
	case "aws_sqs_queue":
		attributes["url"] = cty.StringVal("https://" + name)
	}
	return attributes
}

// context is what expressions may refer to; i is the instance that they are in.
func (m *module) context(i *instance) *hcl.EvalContext {
	kinds := map[string]map[string]cty.Value{}
	for _, r := range m.resources {
		if !r.known {
			continue
		}
		var all []cty.Value
		for _, i := range r.instances {
			all = append(all, cty.ObjectVal(i.attributes))
		}
		if kinds[r.kind] == nil {
			kinds[r.kind] = map[string]cty.Value{}
		}
		if r.many {
			kinds[r.kind][r.name] = cty.TupleVal(all)
		} else {
			kinds[r.kind][r.name] = all[0]
		}
	}
	of := func(attribute, value string) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{attribute: cty.StringVal(value)})})
	}
	values := map[string]cty.Value{
		"var": cty.ObjectVal(m.variables), "local": cty.ObjectVal(m.values),
		"data": cty.ObjectVal(map[string]cty.Value{"aws_caller_identity": of("account_id", Account), "aws_partition": of("partition", "aws"), "aws_region": of("id", Region)}),
	}
	for kind, all := range kinds {
		values[kind] = cty.ObjectVal(all)
	}
	if i != nil && i.key != cty.NilVal {
		values["each"] = cty.ObjectVal(map[string]cty.Value{"key": i.key, "value": i.value})
	}
	return &hcl.EvalContext{Variables: values, Functions: map[string]function.Function{
		"jsonencode": stdlib.JSONEncodeFunc, "concat": stdlib.ConcatFunc, "min": stdlib.MinFunc, "contains": stdlib.ContainsFunc, "merge": stdlib.MergeFunc,
		"filebase64sha256": stdlib.UpperFunc, // any text does
	}}
}

func (m *module) evaluate(e hcl.Expression, i *instance) cty.Value {
	v, diagnostics := e.Value(m.context(i))
	if diagnostics.HasErrors() {
		m.problems = append(m.problems, diagnostics)
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return v
}

// plain turns a value into what tree reads.
func plain(v cty.Value) any {
	switch {
	case v.IsNull():
		return nil
	case v.Type() == cty.String:
		return v.AsString()
	case v.Type() == cty.Bool:
		return v.True()
	case v.Type() == cty.Number:
		n, _ := v.AsBigFloat().Float64()
		return n
	case v.Type().IsObjectType() || v.Type().IsMapType():
		all := map[string]any{}
		for k, e := range v.AsValueMap() {
			all[k] = plain(e)
		}
		return all
	}
	all := []any{}
	for _, e := range v.AsValueSlice() {
		all = append(all, plain(e))
	}
	return all
}

// body turns a body into what tree reads; the blocks of a type are a list.
func (m *module) body(b *hclsyntax.Body, i *instance) map[string]any {
	all := map[string]any{}
	for name, a := range b.Attributes {
		if !slices.Contains([]string{"count", "for_each", "depends_on"}, name) {
			all[name] = plain(m.evaluate(a.Expr, i))
		}
	}
	add := func(kind string, body map[string]any) {
		list, _ := all[kind].([]any)
		all[kind] = append(list, body)
	}
	for _, block := range b.Blocks {
		switch {
		case block.Type != "dynamic":
			add(block.Type, m.body(block.Body, i))
		case len(block.Body.Blocks) == 1:
			for range m.evaluate(block.Body.Attributes["for_each"].Expr, i).LengthInt() {
				add(block.Labels[0], m.body(block.Body.Blocks[0].Body, i))
			}
		default:
			m.fail("a dynamic block has one content")
		}
	}
	return all
}

// of runs through the instances of a kind of resource.
func (m *module) of(kind string, do func(i instance, p tree)) {
	for _, r := range m.resources {
		if r.kind != kind {
			continue
		}
		for _, i := range r.instances {
			do(i, tree{kind + "." + r.name, m.body(r.body, &i), &m.problems})
		}
	}
}
