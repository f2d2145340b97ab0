package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// checkLeases tells which groups the lease table knows, and what their rows say of lost records and sick workers. Whether a worker lives is
// a matter of two looks: outbox status takes them.
func (x *examination) checkLeases(ctx context.Context) {
	if x.leases == "" || !x.checkOther(ctx, leasesSpec, x.leases) {
		return
	}
	var groups []*knownGroup
	all, err := scanKeys(ctx, x.c.dynamodb, x.leases, []string{"group", "id", "dead", "unable", "checkpoint", "unfinished", "ttl"}, func(row rows.Item) {
		group := rows.Text(row, "group")
		stream, kind, ok := strings.Cut(rows.Text(row, "id"), "#")
		if !ok || group == "" {
			return // no row of a lease table
		}
		i := slices.IndexFunc(groups, func(k *knownGroup) bool { return k.Group == group && k.Stream == stream })
		if i < 0 {
			i = len(groups)
			groups = append(groups, &knownGroup{Group: group, Stream: stream})
		}
		if shard, ok := strings.CutPrefix(kind, "L#"); ok {
			groups[i].Shards++
			if x.isReadAs(stream) && row["ttl"] != nil && (rows.Text(row, "checkpoint") != lease.ShardEnd || row["unfinished"] != nil) {
				x.add(gradeProblem, "shards", x.leases, fmt.Sprintf("records of %s are lost to group %s: the stream forgot them before they were handled", shard, group),
					x.reconcile()+" lists them; see \"Lost stream data\" in docs/operating.md")
			}
		}
		if worker, ok := strings.CutPrefix(kind, "W#"); ok && !rows.Flag(row, "dead") {
			groups[i].Workers++
			if x.isReadAs(stream) && rows.Flag(row, "unable") {
				x.add(gradeWarning, "workers", x.leases, fmt.Sprintf("worker %s of group %s cannot do its work", worker, group), "its log, and Worker.Health, name the reason")
			}
		}
	})
	if err != nil {
		x.failed(gradeUnknown, "groups", x.leases, "dynamodb:Scan", err)
		return
	}
	slices.SortFunc(groups, func(a, b *knownGroup) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Stream, b.Stream))
	})
	var known []string
	for _, k := range groups {
		known = append(known, k.String())
		if !x.isReadAs(k.Stream) {
			continue
		}
		x.readers++
		if k.Workers == 0 && k.Shards > 0 {
			x.add(gradeWarning, "workers", x.leases, fmt.Sprintf("group %s has begun %s, and has no worker at present", k.Group, x.stream), "start its workers; if the group is given up, delete its rows")
		}
	}
	switch {
	case !all:
		x.add(gradeUnknown, "groups", x.leases, "the table has more rows than doctor reads", "look with "+x.status())
	case len(known) == 0:
		x.add(gradeOK, "groups", x.leases, "no group of workers has begun any stream", "")
	default:
		x.add(gradeOK, "groups", x.leases, strings.Join(known, ", "), "")
	}
}

// isReadAs reports whether workers that name their stream so read the one that is looked at.
func (x *examination) isReadAs(stream string) bool {
	return stream == x.stream || stream == x.streamARN || !x.ofTable && x.streamARN != "" && strings.HasSuffix(x.streamARN, ":stream/"+stream)
}

// checkReaders tells if nobody is known to read.
func (x *examination) checkReaders(context.Context) {
	if x.readers > 0 {
		return
	}
	x.add(gradeUnknown, "readers", x.stream, "no function and no group of workers that reads it is known", "give --function, or --leases with the lease table of its workers")
}
