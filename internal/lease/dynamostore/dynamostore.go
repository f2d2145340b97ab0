// Package dynamostore keeps leases in a DynamoDB table. It knows the form of the table, and nothing about who takes which lease.
//
// # The table
//
// Partition key group (S), sort key id (S). One Query reads the rows of a group and a stream, or its workers only:
//
//	<stream>#L#<shard>    a lease: owner (S), fence (N), n (N), checkpoint (S), attempts (M of N), want (S),
//	                      unfinished (M: by sequence number attempts (N) and key (N) of a record up to the checkpoint),
//	                      parents (SS), hashLo, hashHi (S), last (S): the checkpoint before the end, missing (S): a worker that
//	                      does not find the shard in its source, ttl (N) once the source has forgotten the shard
//	<stream>#W#<worker>   a worker: beat (N), moves (N), duration (N, milliseconds), draining, dead, unable (BOOL), refuses (SS): shards
//	                      that the worker could not read, version (S) of its release, ttl (N)
//	<stream>#start        position (S): where the group has begun the stream
//
// L sorts before W, so a Query reads a lease before its owner's row, and the owner was registered before it owned the lease.
// Attributes without a value (no owner, no want) are absent.
package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Client is what a Store needs. *dynamodb.Client implements it.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Some rows stay only so that late copies of old writes find them. DynamoDB deletes an expired row hours or days later. Besides
// the time at which a group begins, these are the only wall-clock times in the protocol, and only garbage depends on them.
const (
	workerTTL = 7 * 24 * time.Hour // every beat, and the worker's death, renew it
	shardTTL  = 6 * time.Hour      // a DynamoDB stream replaces each shard several times a day, and every View reads the rows that stay
)

// Store is the part of a table that belongs to one group and one stream. It is safe for concurrent use.
type Store struct {
	client Client
	table  string
	group  string
	stream string
}

var _ lease.Store = (*Store)(nil)

// maxGroup is the most bytes of a partition key.
const maxGroup = 2048

// New returns the Store of a group and a stream. No name may be empty or contain '#'.
func New(client Client, table, group, stream string) (*Store, error) {
	var errs []error
	if err := names.Table(table); err != nil {
		errs = append(errs, fmt.Errorf("the lease table: %w", err))
	}
	for _, named := range []struct{ what, name string }{{"group", group}, {"stream", stream}} {
		if named.name == "" || strings.Contains(named.name, "#") {
			errs = append(errs, fmt.Errorf("the name of a lease table's %s must not be empty nor contain '#': %q", named.what, named.name))
		}
	}
	if len(group) > maxGroup || !utf8.ValidString(group) {
		errs = append(errs, fmt.Errorf("the name of a lease table's group has at most %d bytes of UTF-8: it has %d, and begins with %q", maxGroup, len(group), group[:min(len(group), 100)]))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Store{client, table, group, stream}, nil
}

func ttl(d time.Duration) types.AttributeValue { return rows.N(time.Now().Add(d).Unix()) }

func (s *Store) leaseID(shard string) string   { return s.stream + "#L#" + shard }
func (s *Store) startID() string               { return s.stream + "#start" }
func (s *Store) workerID(worker string) string { return s.stream + "#W#" + worker }

func (s *Store) key(id string) rows.Item {
	return rows.Item{"group": rows.S(s.group), "id": rows.S(id)}
}

// update is one conditional write. If its condition does not hold, judge gets the row, nil if there is no row. judge reports
// whether an earlier copy of the write has made the row as the write wanted it.
func (s *Store) update(ctx context.Context, id, condition, expression string, values rows.Item, judge func(rows.Item) bool) (rows.Item, error) {
	out, err := awserr.Answered(s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           &s.table,
		Key:                                 s.key(id),
		ConditionExpression:                 &condition,
		UpdateExpression:                    &expression,
		ExpressionAttributeNames:            rows.Names(condition, expression),
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}))
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) && failed != nil {
		if judge(failed.Item) {
			return failed.Item, nil
		}
		return nil, lease.ErrRefused
	}
	if err != nil {
		return nil, s.explain(id, err)
	}
	if len(out.Attributes) == 0 { // the row was asked for, so this is not an answer to the request
		return nil, s.explain(id, errNoRow)
	}
	return out.Attributes, nil
}

// errNoRow is what a client or something on the way to the table has answered, though no table answers so. Nobody knows whether the
// request was carried out.
var errNoRow = errors.New("the answer lacks the row")

// explain says where an error happened, and marks errors that do not pass. A table of another form never becomes a lease table.
func (s *Store) explain(id string, err error) error {
	wrapped := fmt.Errorf("lease table %s, group %s, row %s: %w", s.table, s.group, id, err)
	switch awserr.Code(err) {
	case "ValidationException":
		return lease.Fatal(wrapped)
	case "ResourceNotFoundException", "AccessDeniedException", "UnrecognizedClientException":
		return lease.Denied(wrapped)
	}
	return wrapped
}

// View implements lease.Store.
func (s *Store) View(ctx context.Context) (lease.View, error) {
	var v lease.View
	err := s.read(ctx, s.stream+"#", true, func(id string, row rows.Item) {
		if shard, ok := strings.CutPrefix(id, s.leaseID("")); ok {
			v.Leases = append(v.Leases, readLease(shard, row))
		} else if worker, ok := strings.CutPrefix(id, s.workerID("")); ok {
			v.Workers = append(v.Workers, readWorker(worker, row))
		}
	})
	if err != nil {
		return lease.View{}, err
	}
	return v, nil
}

// Look implements lease.Store. It reads eventually consistently, for half the units.
func (s *Store) Look(ctx context.Context) ([]lease.Worker, error) {
	var workers []lease.Worker
	err := s.read(ctx, s.workerID(""), false, func(id string, row rows.Item) {
		workers = append(workers, readWorker(strings.TrimPrefix(id, s.workerID("")), row))
	})
	if err != nil {
		return nil, err
	}
	return workers, nil
}

// read calls take for each row of the group whose id has the prefix, in the order of ids.
func (s *Store) read(ctx context.Context, prefix string, consistent bool, take func(id string, row rows.Item)) error {
	const condition = "#group = :group AND begins_with(#id, :prefix)"
	var from rows.Item
	for {
		out, err := awserr.Answered(s.client.Query(ctx, &dynamodb.QueryInput{
			TableName: &s.table, ConsistentRead: &consistent, ExclusiveStartKey: from,
			KeyConditionExpression:    aws.String(condition),
			ExpressionAttributeNames:  rows.Names(condition),
			ExpressionAttributeValues: rows.Item{":group": rows.S(s.group), ":prefix": rows.S(prefix)},
		}))
		if err != nil {
			return s.explain(prefix+"*", err)
		}
		if int(out.Count) > len(out.Items) {
			return s.explain(prefix+"*", fmt.Errorf("the answer counts %d rows and has %d", out.Count, len(out.Items)))
		}
		for _, row := range out.Items {
			id := rows.Text(row, "id")
			if id == "" {
				return s.explain(prefix+"*", errors.New("the answer has a row without a key"))
			}
			take(id, row)
		}
		if from = out.LastEvaluatedKey; len(from) == 0 {
			return nil
		}
	}
}

// Register implements lease.Store.
func (s *Store) Register(ctx context.Context, worker string, duration time.Duration) error {
	_, err := s.update(ctx, s.workerID(worker), "attribute_not_exists(#beat)", "SET #beat = :zero, #moves = :one, #duration = :duration, #ttl = :ttl",
		rows.Item{":zero": rows.N(0), ":one": rows.N(1), ":duration": rows.N(duration.Milliseconds()), ":ttl": ttl(workerTTL)},
		func(row rows.Item) bool { return rows.Int(row, "beat") == 0 && !rows.Flag(row, "dead") })
	return err
}

// Beat implements lease.Store.
func (s *Store) Beat(ctx context.Context, w lease.Worker) error {
	expression := "SET #beat = :beat, #moves = :moves, #draining = :draining, #ttl = :ttl"
	values := rows.Item{":beat": rows.N(w.Beat), ":moves": rows.N(w.Moves), ":draining": rows.Bool(w.Draining), ":ttl": ttl(workerTTL)}
	if w.Version != "" {
		expression, values[":version"] = expression+", #version = :version", rows.S(w.Version)
	}
	var remove []string
	if w.Unable {
		expression, values[":unable"] = expression+", #unable = :unable", rows.Bool(true)
	} else {
		remove = append(remove, "#unable")
	}
	if len(w.Refuses) > 0 {
		expression, values[":refuses"] = expression+", #refuses = :refuses", &types.AttributeValueMemberSS{Value: w.Refuses}
	} else {
		remove = append(remove, "#refuses")
	}
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	_, err := s.update(ctx, s.workerID(w.ID), "attribute_not_exists(#dead) AND #beat < :beat",
		expression, values,
		func(row rows.Item) bool { return row != nil && !rows.Flag(row, "dead") })
	return err
}

// MarkDead implements lease.Store.
func (s *Store) MarkDead(ctx context.Context, worker string, seen int64) error {
	_, err := s.update(ctx, s.workerID(worker), "#beat = :seen", "SET #dead = :yes, #ttl = :ttl",
		rows.Item{":seen": rows.N(seen), ":yes": rows.Bool(true), ":ttl": ttl(workerTTL)},
		func(row rows.Item) bool { return rows.Flag(row, "dead") })
	return err
}

// Retire implements lease.Store.
func (s *Store) Retire(ctx context.Context, worker string) error {
	_, err := s.update(ctx, s.workerID(worker), "attribute_exists(#beat)", "SET #dead = :yes, #ttl = :ttl",
		rows.Item{":yes": rows.Bool(true), ":ttl": ttl(workerTTL)}, func(rows.Item) bool { return true })
	return err
}

// ForgetWorker implements lease.Store.
func (s *Store) ForgetWorker(ctx context.Context, worker string) error {
	const condition = "attribute_not_exists(#beat) OR #dead = :yes"
	_, err := awserr.Answered(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: s.key(s.workerID(worker)),
		ConditionExpression: aws.String(condition), ExpressionAttributeNames: rows.Names(condition), ExpressionAttributeValues: rows.Item{":yes": rows.Bool(true)},
	}))
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) && failed != nil {
		return lease.ErrRefused
	}
	if err != nil {
		return s.explain(s.workerID(worker), err)
	}
	return nil
}

// Begin implements lease.Store.
func (s *Store) Begin(ctx context.Context, position string) (string, error) {
	row, err := s.update(ctx, s.startID(), "attribute_not_exists(#position)", "SET #position = :position", rows.Item{":position": rows.S(position)},
		func(rows.Item) bool { return true })
	if err != nil {
		return "", err
	}
	begun := rows.Text(row, "position")
	if begun == "" {
		return "", s.explain(s.startID(), errNoRow)
	}
	return begun, nil
}

// Ensure implements lease.Store.
func (s *Store) Ensure(ctx context.Context, shard lease.Shard, position string) error {
	expression, values := create(shard, position)
	_, err := s.update(ctx, s.leaseID(shard.ID), "attribute_not_exists(#checkpoint)", expression, values, func(rows.Item) bool { return true })
	return err
}

// create is the update that makes a lease's row and changes nothing of a row that exists.
func create(shard lease.Shard, position string) (string, rows.Item) {
	expression := "SET #checkpoint = if_not_exists(#checkpoint, :position), #fence = if_not_exists(#fence, :zero)"
	values := rows.Item{":position": rows.S(position), ":zero": rows.N(0)}
	if len(shard.Parents) > 0 {
		expression += ", #parents = if_not_exists(#parents, :parents)"
		parents := slices.Compact(slices.Sorted(slices.Values(shard.Parents)))
		values[":parents"] = &types.AttributeValueMemberSS{Value: parents}
	}
	if shard.HashLo != "" || shard.HashHi != "" {
		expression += ", #hashLo = if_not_exists(#hashLo, :lo), #hashHi = if_not_exists(#hashHi, :hi)"
		values[":lo"], values[":hi"] = rows.S(shard.HashLo), rows.S(shard.HashHi)
	}
	return expression, values
}

// same is the condition that a lease is as the key says.
func same(key lease.Key, values rows.Item) string {
	values[":fence"] = rows.N(key.Fence)
	if key.Owner == "" {
		return "#fence = :fence AND attribute_not_exists(#owner)"
	}
	values[":owner"] = rows.S(key.Owner)
	return "#fence = :fence AND #owner = :owner"
}

// Acquire implements lease.Store.
func (s *Store) Acquire(ctx context.Context, seen lease.Lease, worker string) (lease.Lease, error) {
	values := rows.Item{":next": rows.N(seen.Fence + 1), ":me": rows.S(worker), ":end": rows.S(lease.ShardEnd)}
	condition := same(seen.Key(), values) + " AND (#checkpoint <> :end OR attribute_exists(#unfinished)) AND attribute_not_exists(#ttl)"
	row, err := s.update(ctx, s.leaseID(seen.ID), condition, "SET #owner = :me, #fence = :next REMOVE #want, #n", values,
		func(row rows.Item) bool {
			return rows.Text(row, "owner") == worker && rows.Int(row, "fence") == seen.Fence+1 && row["ttl"] == nil
		})
	if err != nil {
		return lease.Lease{}, err
	}
	return readLease(seen.ID, row), nil
}

// Want implements lease.Store.
func (s *Store) Want(ctx context.Context, seen lease.Lease, worker string) error {
	if seen.Owner == "" {
		return lease.ErrRefused
	}
	values := rows.Item{":me": rows.S(worker)}
	condition := same(seen.Key(), values)
	if seen.Want == "" {
		condition += " AND attribute_not_exists(#want)"
	} else {
		condition += " AND #want = :seen"
		values[":seen"] = rows.S(seen.Want)
	}
	_, err := s.update(ctx, s.leaseID(seen.ID), condition, "SET #want = :me", values, func(row rows.Item) bool {
		return rows.Text(row, "owner") == seen.Owner && rows.Int(row, "fence") == seen.Fence && rows.Text(row, "want") == worker
	})
	return err
}

// Save implements lease.Store.
func (s *Store) Save(ctx context.Context, key lease.Key, n int64, p lease.Progress) error {
	if key.Owner == "" {
		return lease.ErrRefused
	}
	values := rows.Item{":n": rows.N(n), ":checkpoint": rows.S(p.Checkpoint)}
	set, remove := "SET #checkpoint = :checkpoint, #n = :n", []string{}
	if len(p.Attempts) == 0 {
		remove = append(remove, "#attempts")
	} else {
		attempts := rows.Item{}
		for record, n := range p.Attempts {
			attempts[record] = rows.N(int64(n))
		}
		set += ", #attempts = :attempts"
		values[":attempts"] = &types.AttributeValueMemberM{Value: attempts}
	}
	if len(p.Holes) == 0 {
		remove = append(remove, "#unfinished")
	} else {
		set += ", #unfinished = :unfinished"
		values[":unfinished"] = unfinished(p.Holes)
	}
	expression := set
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	condition := same(key, values) + " AND (attribute_not_exists(#n) OR #n <= :n)"
	_, err := s.update(ctx, s.leaseID(key.Shard), condition, expression, values, func(rows.Item) bool { return false })
	return err
}

// unfinished is the attribute that holds the holes below a checkpoint.
func unfinished(holes map[string]lease.Hole) types.AttributeValue {
	all := rows.Item{}
	for record, hole := range holes {
		one := rows.Item{"attempts": rows.N(int64(hole.Attempts))}
		if hole.Key != 0 {
			one["key"] = &types.AttributeValueMemberN{Value: strconv.FormatUint(hole.Key, 10)}
		}
		all[record] = &types.AttributeValueMemberM{Value: one}
	}
	return &types.AttributeValueMemberM{Value: all}
}

func readHoles(row rows.Item) map[string]lease.Hole {
	all, ok := rows.As[*types.AttributeValueMemberM](row["unfinished"])
	if !ok || len(all.Value) == 0 {
		return nil
	}
	holes := make(map[string]lease.Hole, len(all.Value))
	for record, one := range all.Value {
		var hole lease.Hole
		if m, ok := rows.As[*types.AttributeValueMemberM](one); ok {
			hole.Attempts = int(rows.Int(m.Value, "attempts"))
			if key, ok := rows.As[*types.AttributeValueMemberN](m.Value["key"]); ok {
				hole.Key, _ = strconv.ParseUint(key.Value, 10, 64)
			}
		}
		holes[record] = hole
	}
	return holes
}

// Release implements lease.Store.
func (s *Store) Release(ctx context.Context, key lease.Key, to string) error {
	if key.Owner == "" {
		return lease.ErrRefused
	}
	fence, expression := key.Fence, "REMOVE #owner, #want, #n"
	values := rows.Item{}
	if to != "" {
		fence, expression = key.Fence+1, "SET #owner = :to, #fence = :next REMOVE #want, #n"
		values[":to"], values[":next"] = rows.S(to), rows.N(fence)
	}
	_, err := s.update(ctx, s.leaseID(key.Shard), same(key, values), expression, values, func(row rows.Item) bool {
		return row != nil && rows.Text(row, "owner") == to && rows.Int(row, "fence") == fence
	})
	return err
}

// End implements lease.Store.
func (s *Store) End(ctx context.Context, key lease.Key, n int64, holes map[string]lease.Hole, children []lease.Shard) error {
	if key.Owner == "" {
		return lease.ErrRefused
	}
	values := rows.Item{":end": rows.S(lease.ShardEnd), ":n": rows.N(n)}
	condition := same(key, values) + " AND (attribute_not_exists(#n) OR #n <= :n)"
	expression := "SET #checkpoint = :end, #last = if_not_exists(#last, #checkpoint), #n = :n REMOVE #owner, #want, #attempts, #unfinished"
	if len(holes) > 0 {
		expression = "SET #checkpoint = :end, #last = if_not_exists(#last, #checkpoint), #n = :n, #unfinished = :unfinished REMOVE #attempts"
		values[":unfinished"] = unfinished(holes)
	}
	in := &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Update: &types.Update{
		TableName: &s.table, Key: s.key(s.leaseID(key.Shard)), ConditionExpression: &condition, UpdateExpression: &expression,
		ExpressionAttributeNames: rows.Names(condition, expression), ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}}}
	for _, child := range children {
		expression, values := create(child, lease.TrimHorizon)
		in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Update: &types.Update{
			TableName: &s.table, Key: s.key(s.leaseID(child.ID)), UpdateExpression: &expression,
			ExpressionAttributeNames: rows.Names(expression), ExpressionAttributeValues: values,
		}})
	}
	_, err := awserr.Answered(s.client.TransactWriteItems(ctx, in))
	if canceled := (*types.TransactionCanceledException)(nil); errors.As(err, &canceled) && canceled != nil && len(canceled.CancellationReasons) > 0 {
		if reason := canceled.CancellationReasons[0]; aws.ToString(reason.Code) == "ConditionalCheckFailed" {
			row := reason.Item
			if row != nil && rows.Text(row, "checkpoint") == lease.ShardEnd && rows.Int(row, "fence") == key.Fence {
				return nil
			}
			return lease.ErrRefused
		}
	}
	if err != nil {
		return s.explain(s.leaseID(key.Shard), err)
	}
	return nil
}

// Finish implements lease.Store.
func (s *Store) Finish(ctx context.Context, key lease.Key) error {
	if key.Owner == "" {
		return lease.ErrRefused
	}
	values := rows.Item{":end": rows.S(lease.ShardEnd)}
	condition := same(key, values) + " AND #checkpoint = :end"
	_, err := s.update(ctx, s.leaseID(key.Shard), condition, "REMOVE #unfinished, #attempts, #owner, #want", values, func(row rows.Item) bool {
		return rows.Text(row, "checkpoint") == lease.ShardEnd && row["unfinished"] == nil && rows.Int(row, "fence") == key.Fence
	})
	return err
}

// Miss implements lease.Store.
func (s *Store) Miss(ctx context.Context, seen lease.Lease, worker string) error {
	values := rows.Item{":me": rows.S(worker)}
	condition := same(seen.Key(), values) + " AND attribute_not_exists(#ttl) AND "
	if seen.Missing == "" {
		condition += "attribute_not_exists(#missing)"
	} else {
		condition += "#missing = :seen"
		values[":seen"] = rows.S(seen.Missing)
	}
	_, err := s.update(ctx, s.leaseID(seen.ID), condition, "SET #missing = :me", values, func(row rows.Item) bool {
		return row["ttl"] == nil && rows.Text(row, "owner") == seen.Owner && rows.Int(row, "fence") == seen.Fence && rows.Text(row, "missing") == worker
	})
	return err
}

// Gone implements lease.Store.
func (s *Store) Gone(ctx context.Context, seen lease.Lease) error {
	if seen.Missing == "" {
		return lease.ErrRefused
	}
	values := rows.Item{":ttl": ttl(shardTTL), ":voter": rows.S(seen.Missing)}
	condition := same(seen.Key(), values) + " AND attribute_not_exists(#ttl) AND #missing = :voter"
	_, err := s.update(ctx, s.leaseID(seen.ID), condition, "SET #ttl = :ttl REMOVE #owner, #want", values, func(row rows.Item) bool {
		return row["ttl"] != nil
	})
	return err
}

// Revive implements lease.Store.
func (s *Store) Revive(ctx context.Context, seen lease.Lease) error {
	_, err := s.update(ctx, s.leaseID(seen.ID), "#fence = :fence", "REMOVE #ttl, #missing", rows.Item{":fence": rows.N(seen.Fence)},
		func(rows.Item) bool { return false })
	return err
}

// Reopen implements lease.Store.
func (s *Store) Reopen(ctx context.Context, seen lease.Lease) error {
	values := rows.Item{":end": rows.S(lease.ShardEnd)}
	condition := same(lease.Key{Shard: seen.ID, Fence: seen.Fence}, values) + " AND #checkpoint = :end AND "
	expression := "SET #checkpoint = #last REMOVE #last"
	if seen.Last == "" {
		condition += "attribute_not_exists(#last)"
		expression, values[":oldest"] = "SET #checkpoint = :oldest", rows.S(lease.TrimHorizon)
	} else {
		condition += "attribute_exists(#last)"
	}
	_, err := s.update(ctx, s.leaseID(seen.ID), condition, expression, values, func(row rows.Item) bool {
		at := rows.Text(row, "checkpoint")
		return at != "" && at != lease.ShardEnd && rows.Text(row, "owner") == "" && rows.Int(row, "fence") == seen.Fence
	})
	return err
}

func readWorker(id string, row rows.Item) lease.Worker {
	w := lease.Worker{ID: id, Beat: rows.Int(row, "beat"), Moves: rows.Int(row, "moves"), Dead: rows.Flag(row, "dead"), Unable: rows.Flag(row, "unable"),
		Draining: rows.Flag(row, "draining"), Version: rows.Text(row, "version"), Duration: time.Duration(rows.Int(row, "duration")) * time.Millisecond}
	if refuses, ok := rows.As[*types.AttributeValueMemberSS](row["refuses"]); ok {
		w.Refuses = slices.Sorted(slices.Values(refuses.Value))
	}
	return w
}

func readLease(shard string, row rows.Item) lease.Lease {
	l := lease.Lease{
		Shard:    lease.Shard{ID: shard, HashLo: rows.Text(row, "hashLo"), HashHi: rows.Text(row, "hashHi")},
		Owner:    rows.Text(row, "owner"),
		Fence:    rows.Int(row, "fence"),
		N:        rows.Int(row, "n"),
		Want:     rows.Text(row, "want"),
		Gone:     row["ttl"] != nil,
		Missing:  rows.Text(row, "missing"),
		Last:     rows.Text(row, "last"),
		Progress: lease.Progress{Checkpoint: rows.Text(row, "checkpoint"), Holes: readHoles(row)},
	}
	if parents, ok := rows.As[*types.AttributeValueMemberSS](row["parents"]); ok {
		l.Parents = slices.Sorted(slices.Values(parents.Value))
	}
	if attempts, ok := rows.As[*types.AttributeValueMemberM](row["attempts"]); ok {
		l.Attempts = map[string]int{}
		for record := range attempts.Value {
			l.Attempts[record] = int(rows.Int(attempts.Value, record))
		}
	}
	return l
}
