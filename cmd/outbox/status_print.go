package main

import (
	"fmt"
	"strings"
	"time"
)

func (a *app) printStatus(s *groupStatus) error {
	rows := [][]string{{"SHARD", "STATE", "OWNER", "FENCE", "WAITING", "LAG", "NEXT", "CHECKPOINT"}}
	for _, shard := range s.Shards {
		next := shard.NextSequenceNumber
		if shard.Next != nil {
			next = shard.Next.Type + " " + shard.Next.ID + " " + next
		}
		owner := shard.Owner
		if shard.OwnerState == workerDraining {
			owner += " (draining)"
		}
		rows = append(rows, []string{shard.Shard, shard.State, owner, fmt.Sprint(shard.Fence), shard.waitingText(), shard.lagText(), next, shard.placeText()})
	}
	if err := a.columns(rows); err != nil {
		return err
	}
	if len(s.Workers) > 0 {
		rows = [][]string{{"WORKER", "STATE", "VERSION", "SHARDS"}}
		for _, w := range s.Workers {
			state := w.State
			if w.Unable {
				state += ", unable"
			}
			version := w.Version
			if version == "" {
				version = "unknown"
			}
			rows = append(rows, []string{w.Worker, state, version, fmt.Sprint(w.Shards)})
		}
		fmt.Fprintln(a.out)
		if err := a.columns(rows); err != nil {
			return err
		}
	}
	p := a.paint(a.out)
	fmt.Fprintf(a.out, "\n%s; %s\n", s.counts(), a.summary(s))
	for _, reason := range s.Reasons {
		fmt.Fprintln(a.out, p.red("- "+printable(reason)))
	}
	if d := s.Dead; d != nil && d.Letters == 0 {
		fmt.Fprintln(a.out, "no dead letters")
	} else if d != nil {
		fmt.Fprintf(a.out, "%s, %d of them behind another; the oldest is %s old\n", p.red(count(d.Letters, "dead letter")), d.Parked, age(a.now().Sub(d.Oldest)))
	}
	return nil
}

// counts is how many shards there are, and how many workers live.
func (s *groupStatus) counts() string {
	living := 0
	for _, w := range s.Workers {
		if w.lives() {
			living++
		}
	}
	if living == 1 {
		return count(len(s.Shards), "shard") + ", 1 worker lives"
	}
	return fmt.Sprintf("%s, %d workers live", count(len(s.Shards), "shard"), living)
}

// summary is what waits, and whether all is well.
func (a *app) summary(s *groupStatus) string {
	p := a.paint(a.out)
	total, more, unknown := 0, false, false
	for _, shard := range s.Shards {
		more = more || shard.MoreWaiting
		if shard.Waiting == nil {
			unknown = true
			continue
		}
		total += *shard.Waiting
	}
	var parts []string
	switch {
	case total > 0:
		text := waiting(total, more || unknown)
		if s.Oldest != "" {
			text += ", the oldest for " + p.bold(age(s.oldest())) + " in " + printable(s.Oldest)
		}
		parts = append(parts, text)
	case unknown:
		parts = append(parts, p.red("how many records wait is unknown"))
	case s.OK && (s.Dead == nil || s.Dead.Letters == 0):
		return p.green("nothing is waiting")
	case s.OK:
		parts = append(parts, "nothing is waiting but dead letters")
	}
	if !s.OK {
		parts = append(parts, p.red("not all is well, or known:"))
	}
	return strings.Join(parts, "; ")
}

// oldest is the largest lag that is known.
func (s *groupStatus) oldest() time.Duration {
	for _, shard := range s.Shards {
		if shard.Shard == s.Oldest {
			return time.Duration(*shard.Lag)
		}
	}
	return 0
}

// placeText is where the shard is read on.
func (s *shardStatus) placeText() string {
	switch {
	case s.Checkpoint != "":
		return s.Checkpoint
	case !s.StartsAt.IsZero():
		return "from " + s.StartsAt.UTC().Format(time.RFC3339Nano)
	case s.readable() && !s.ended && s.State != shardNotBegun && s.State != shardWaits:
		return "from the oldest"
	}
	return ""
}

func (s *shardStatus) waitingText() string {
	switch {
	case s.Waiting == nil:
		return "unknown"
	case s.MoreWaiting:
		return fmt.Sprintf("%d+", *s.Waiting)
	}
	return fmt.Sprint(*s.Waiting)
}

func (s *shardStatus) lagText() string {
	switch {
	case s.Lag != nil:
		return age(time.Duration(*s.Lag))
	case s.LagAtMost != nil:
		return "at most " + age(time.Duration(*s.LagAtMost))
	}
	return "unknown"
}
