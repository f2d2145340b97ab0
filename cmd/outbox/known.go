package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// knownGroup is what a lease table has of a group and a stream.
type knownGroup struct {
	Group   string `json:"group"`
	Stream  string `json:"stream"`
	Shards  int    `json:"shards"`
	Workers int    `json:"workers"` // that nobody has found dead; whether they live, only a second look tells
}

func (k knownGroup) String() string {
	return fmt.Sprintf("group %s on stream %s (%s, %s)", printable(k.Group), printable(k.Stream), count(k.Shards, "shard"), count(k.Workers, "worker"))
}

// knownGroups returns the groups and streams of a lease table, sorted. all is false if the table has more rows than were read.
func knownGroups(ctx context.Context, client dynamodb.ScanAPIClient, table string) (groups []knownGroup, all bool, err error) {
	type place struct{ group, stream string }
	found := map[place]*knownGroup{}
	all, err = scanKeys(ctx, client, table, []string{"group", "id", "dead"}, func(row rows.Item) {
		group := rows.Text(row, "group")
		stream, kind, ok := strings.Cut(rows.Text(row, "id"), "#")
		if !ok || group == "" {
			return // no row of a lease table
		}
		k := found[place{group, stream}]
		if k == nil {
			k = &knownGroup{Group: group, Stream: stream}
			found[place{group, stream}] = k
		}
		switch {
		case strings.HasPrefix(kind, "L#"):
			k.Shards++
		case strings.HasPrefix(kind, "W#") && !rows.Flag(row, "dead"):
			k.Workers++
		}
	})
	for _, k := range found {
		groups = append(groups, *k)
	}
	slices.SortFunc(groups, func(a, b knownGroup) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Stream, b.Stream))
	})
	return groups, all, err
}

// knownConsumers returns how many letters a dead letter table has of each consumer that it knows. A consumer whose letters are all
// redriven may still be there, with 0. all is false if the table has more rows than were read.
func knownConsumers(ctx context.Context, client dynamodb.ScanAPIClient, table string) (letters map[string]int, all bool, err error) {
	letters = map[string]int{}
	all, err = scanKeys(ctx, client, table, []string{"group"}, func(row rows.Item) {
		consumer, kind, other := strings.Cut(rows.Text(row, "group"), "#")
		switch {
		case consumer == "":
		case !other:
			letters[consumer]++
		case kind != "":
			letters[consumer] += 0
		}
	})
	return letters, all, err
}

// knownList writes names for a sentence.
func knownList(letters map[string]int) string {
	names := slices.Sorted(maps.Keys(letters))
	for i, name := range names {
		names[i] = printable(name)
	}
	return strings.Join(names, ", ")
}

// mostScanned bounds what scanKeys reads: a page is at most 1 MB. A lease table has one page or two.
const mostScanned = 20

// scanKeys calls take for each row of a table with some of its attributes. It reads mostScanned at most; all says whether that was the whole table.
func scanKeys(ctx context.Context, client dynamodb.ScanAPIClient, table string, attributes []string, take func(rows.Item)) (all bool, err error) {
	projection := "#" + strings.Join(attributes, ", #")
	in := &dynamodb.ScanInput{TableName: &table, ProjectionExpression: aws.String(projection), ExpressionAttributeNames: rows.Names(projection)}
	for range mostScanned {
		out, err := scan(ctx, client, in)
		if err != nil {
			return false, fmt.Errorf("read the keys of table %s: %w", table, err)
		}
		for _, row := range out.Items {
			for _, key := range []string{"group", "id"} {
				if slices.Contains(attributes, key) && rows.Text(row, key) == "" {
					return false, fmt.Errorf("read the keys of table %s: the answer has a row without its %s", table, key)
				}
			}
			take(row)
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// scan reads a page of a table. An answer that is not whole is an error: nothing follows from it.
func scan(ctx context.Context, client dynamodb.ScanAPIClient, in *dynamodb.ScanInput) (*dynamodb.ScanOutput, error) {
	out, err := awserr.Answered(client.Scan(ctx, in))
	if err == nil {
		err = awserr.CheckPage(out.Items, out.Count, out.LastEvaluatedKey)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
