package adversary

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// database is a few DynamoDB tables. Items are never changed in place, so an answer is a snapshot. It is safe for concurrent use.
type database struct {
	mu         sync.Mutex
	keys       map[string][2]string // partition key and sort key ("" if there is no such key), by table
	rows       map[string]map[[2]string]item
	conditions map[string]*expression
	updates    map[string][]action
	pageRows   int                              // rows of a page of a Query; 0 for no bound
	before     map[string]map[[2]string]version // what a row was before its last change
	readUnits  float64
}

// version is a row that was changed at a time.
type version struct {
	row     item
	changed time.Time
}

func newDatabase() *database {
	return &database{
		keys: map[string][2]string{"leases": {"group", "id"}, "dead": {"group", "id"}},
		rows: map[string]map[[2]string]item{"leases": {}, "dead": {}}, conditions: map[string]*expression{}, updates: map[string][]action{},
		before: map[string]map[[2]string]version{"leases": {}, "dead": {}},
	}
}

func (d *database) condition(text *string) *expression {
	if text == nil {
		return nil
	}
	e, ok := d.conditions[*text]
	if !ok {
		p := newParser(*text)
		e = p.or()
		if p.peek() != "" {
			panic(fmt.Sprintf("condition %q: unexpected %q", *text, p.peek()))
		}
		d.conditions[*text] = e
	}
	return e
}

func (d *database) update(text *string) []action {
	a, ok := d.updates[aws.ToString(text)]
	if !ok && text != nil {
		a = newParser(*text).update()
		d.updates[*text] = a
	}
	return a
}

func scalar(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	panic(fmt.Sprintf("a key of type %T", v))
}

func (d *database) table(name *string) (string, error) {
	if _, ok := d.rows[aws.ToString(name)]; !ok {
		return "", &types.ResourceNotFoundException{Message: aws.String("Requested resource not found: Table: " + aws.ToString(name))}
	}
	return *name, nil
}

func (d *database) key(table string, from item) [2]string {
	names := d.keys[table]
	key := [2]string{scalar(from[names[0]])}
	if names[1] != "" {
		key[1] = scalar(from[names[1]])
	}
	return key
}

// write is one of the four writes, alone or in a transaction.
type write struct {
	table     *string
	key, put  item // one of them
	update    *string
	delete    bool
	condition *string
	names     map[string]string
	values    item
}

// judged is a write whose condition was looked at.
type judged struct {
	table     string
	key       [2]string
	old, next item
	holds     bool
}

func (d *database) judge(w write) (judged, error) {
	table, err := d.table(w.table)
	if err != nil {
		return judged{}, err
	}
	at := w.key
	if w.put != nil {
		at = w.put
	}
	j := judged{table: table, key: d.key(table, at)}
	j.old = d.rows[table][j.key]
	s := scope{item: j.old, names: w.names, values: w.values}
	if j.holds = s.holds(d.condition(w.condition)); !j.holds {
		return j, nil
	}
	switch {
	case w.put != nil:
		j.next = w.put
	case !w.delete && w.update == nil:
		j.next = j.old // a ConditionCheck
	case !w.delete:
		actions := d.update(w.update)
		if j.old == nil && len(actions) > 0 && !slices.ContainsFunc(actions, func(a action) bool { return a.kind == "SET" || a.kind == "ADD" }) {
			return j, nil // what only removes makes no item
		}
		j.next = s.apply(actions)
		for name, v := range w.key {
			j.next[name] = v
		}
	}
	return j, nil
}

// seen are the rows of a table as a read sees them. A read that is not strongly consistent may see a row as it was a second ago: here each second
// row that was changed since.
func (d *database) seen(table string, consistent *bool) map[[2]string]item {
	rows := d.rows[table]
	if aws.ToBool(consistent) {
		return rows
	}
	cloned := false
	for key, old := range d.before[table] {
		switch {
		case time.Since(old.changed) > time.Second:
			delete(d.before[table], key)
		case len(key[1])%2 == old.changed.Second()%2:
			if !cloned {
				rows, cloned = maps.Clone(rows), true
			}
			if rows[key] = old.row; old.row == nil {
				delete(rows, key)
			}
		}
	}
	return rows
}

func (d *database) commit(j judged) {
	d.before[j.table][j.key] = version{row: j.old, changed: time.Now()}
	if j.next == nil {
		delete(d.rows[j.table], j.key)
	} else {
		d.rows[j.table][j.key] = j.next
	}
}

func (d *database) single(w write, onFailure types.ReturnValuesOnConditionCheckFailure) (judged, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j, err := d.judge(w)
	if err != nil {
		return j, err
	}
	if !j.holds {
		failed := &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed")}
		if onFailure == types.ReturnValuesOnConditionCheckFailureAllOld {
			failed.Item = j.old
		}
		return j, failed
	}
	d.commit(j)
	return j, nil
}

func returned(want types.ReturnValue, j judged) item {
	switch want {
	case types.ReturnValueAllOld:
		return j.old
	case types.ReturnValueAllNew, types.ReturnValueUpdatedNew:
		return j.next
	case types.ReturnValueUpdatedOld:
		return j.old
	}
	return nil
}

func (d *database) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	j, err := d.single(write{table: in.TableName, key: in.Key, update: aws.String(aws.ToString(in.UpdateExpression)), condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}, in.ReturnValuesOnConditionCheckFailure)
	if err != nil {
		return nil, err
	}
	return &dynamodb.UpdateItemOutput{Attributes: returned(in.ReturnValues, j)}, nil
}

func (d *database) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	j, err := d.single(write{table: in.TableName, put: in.Item, condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}, in.ReturnValuesOnConditionCheckFailure)
	if err != nil {
		return nil, err
	}
	return &dynamodb.PutItemOutput{Attributes: returned(in.ReturnValues, j)}, nil
}

func (d *database) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	j, err := d.single(write{table: in.TableName, key: in.Key, delete: true, condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}, in.ReturnValuesOnConditionCheckFailure)
	if err != nil {
		return nil, err
	}
	return &dynamodb.DeleteItemOutput{Attributes: returned(in.ReturnValues, j)}, nil
}

func (d *database) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []judged
	reasons := make([]types.CancellationReason, len(in.TransactItems))
	cancelled := false
	for i, one := range in.TransactItems {
		var w write
		var onFailure types.ReturnValuesOnConditionCheckFailure
		switch {
		case one.Put != nil:
			p := one.Put
			w, onFailure = write{table: p.TableName, put: p.Item, condition: p.ConditionExpression, names: p.ExpressionAttributeNames, values: p.ExpressionAttributeValues}, p.ReturnValuesOnConditionCheckFailure
		case one.Update != nil:
			u := one.Update
			w, onFailure = write{table: u.TableName, key: u.Key, update: u.UpdateExpression, condition: u.ConditionExpression, names: u.ExpressionAttributeNames, values: u.ExpressionAttributeValues}, u.ReturnValuesOnConditionCheckFailure
		case one.Delete != nil:
			x := one.Delete
			w, onFailure = write{table: x.TableName, key: x.Key, delete: true, condition: x.ConditionExpression, names: x.ExpressionAttributeNames, values: x.ExpressionAttributeValues}, x.ReturnValuesOnConditionCheckFailure
		case one.ConditionCheck != nil:
			c := one.ConditionCheck
			w, onFailure = write{table: c.TableName, key: c.Key, condition: c.ConditionExpression, names: c.ExpressionAttributeNames, values: c.ExpressionAttributeValues}, c.ReturnValuesOnConditionCheckFailure
		}
		j, err := d.judge(w)
		if err != nil {
			return nil, err
		}
		reasons[i].Code = aws.String("None")
		if !j.holds {
			cancelled = true
			reasons[i] = types.CancellationReason{Code: aws.String("ConditionalCheckFailed"), Message: aws.String("The conditional request failed")}
			if onFailure == types.ReturnValuesOnConditionCheckFailureAllOld {
				reasons[i].Item = j.old
			}
		}
		all = append(all, j)
	}
	if cancelled {
		return nil, &types.TransactionCanceledException{Message: aws.String("Transaction cancelled"), CancellationReasons: reasons}
	}
	for _, j := range all {
		d.commit(j)
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

func (d *database) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	table, err := d.table(in.TableName)
	if err != nil {
		return nil, err
	}
	d.readUnits++
	return &dynamodb.GetItemOutput{Item: d.seen(table, in.ConsistentRead)[d.key(table, in.Key)]}, nil
}

func (d *database) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]map[string]types.AttributeValue{}}
	for name, wanted := range in.RequestItems {
		table, err := d.table(&name)
		if err != nil {
			return nil, err
		}
		out.Responses[name] = nil
		for _, key := range wanted.Keys {
			if row, ok := d.seen(table, wanted.ConsistentRead)[d.key(table, key)]; ok {
				out.Responses[name] = append(out.Responses[name], row)
			}
		}
	}
	return out, nil
}

// Query answers in pages of pageRows rows, as DynamoDB answers in pages of 1 MB.
func (d *database) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	table, err := d.table(in.TableName)
	if err != nil {
		return nil, err
	}
	s := scope{names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}
	wanted, filter := d.condition(in.KeyConditionExpression), d.condition(in.FilterExpression)
	var found [][2]string
	rows := d.seen(table, in.ConsistentRead)
	for key, row := range rows {
		s.item = row
		if s.holds(wanted) {
			found = append(found, key)
		}
	}
	forward := in.ScanIndexForward == nil || *in.ScanIndexForward
	sort.Slice(found, func(i, j int) bool { return (found[i][1] < found[j][1]) == forward })
	if in.ExclusiveStartKey != nil {
		start := d.key(table, in.ExclusiveStartKey)
		found = slices.DeleteFunc(found, func(k [2]string) bool { return (k[1] <= start[1]) == forward || k[1] == start[1] })
	}
	out := &dynamodb.QueryOutput{Items: []map[string]types.AttributeValue{}}
	limit := len(found) + 1
	if d.pageRows > 0 {
		limit = min(limit, d.pageRows)
	}
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	if limit > len(found) {
		limit = len(found)
	} else { // also if nothing follows
		names, last := d.keys[table], rows[found[limit-1]]
		out.LastEvaluatedKey = item{names[0]: last[names[0]], names[1]: last[names[1]]}
	}
	bytes := 0
	for _, key := range found[:limit] {
		s.item = rows[key]
		out.ScannedCount++
		bytes += rowBytes(s.item)
		if s.holds(filter) {
			out.Count++
			if in.Select != types.SelectCount {
				out.Items = append(out.Items, s.projected(in.ProjectionExpression))
			}
		}
	}
	d.readUnits += float64((bytes + 4095) / 4096)
	return out, nil
}

// projected is the item with the attributes that a projection names.
func (s scope) projected(projection *string) item {
	if projection == nil {
		return s.item
	}
	result := item{}
	for _, path := range strings.Split(*projection, ",") {
		name := s.path(strings.TrimSpace(path))
		if v, ok := s.item[name[0]]; ok && len(name) == 1 {
			result[name[0]] = v
		}
	}
	return result
}

// rowBytes is roughly the size by which DynamoDB bills a row.
func rowBytes(row item) (n int) {
	for name, v := range row {
		n += len(name) + max(size(v), 8)
	}
	return n
}
