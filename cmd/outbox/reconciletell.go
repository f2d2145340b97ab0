package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/replay"
)

// reconciliation is a run of reconcile.
type reconciliation struct {
	*app
	f    *reconcileFlags
	walk *walk

	inbox      *inboxKnown
	letters    map[string]int // by consumer; nil without a dead letter table
	allLetters bool           // rows of the dead letter table were read

	listed     []outbox.Record // the oldest, and some more
	latest     time.Time
	unreadable []error // the first ones
}

// found is told of each event that is undelivered, and of each row that cannot be read.
func (r *reconciliation) found(e outbox.Record, err error) {
	if err != nil {
		if len(r.unreadable) < mostTold {
			r.unreadable = append(r.unreadable, err)
		}
		return
	}
	r.walk.undelivered(e)
	if e.Time.After(r.latest) {
		r.latest = e.Time
	}
	if r.listed = append(r.listed, e); len(r.listed) >= 2*r.f.limit+1000 {
		r.keepOldest()
	}
}

func (r *reconciliation) keepOldest() {
	slices.SortFunc(r.listed, func(a, b outbox.Record) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID)) })
	r.listed = slices.Clip(r.listed[:min(len(r.listed), r.f.limit)])
}

// reconciled is the result of reconcile.
type reconciled struct {
	OK          bool `json:"ok"` // the rest of the table was read, nothing is undelivered, and all can be read
	Searched    int  `json:"searched"`
	Handled     int  `json:"handled"`
	Claimed     int  `json:"claimed"`
	DeadLetters int  `json:"deadLetters"`
	Undelivered int  `json:"undelivered"`
	Unreadable  int  `json:"unreadable"`
	// What was not judged: events that may be on their way, that the inbox may have forgotten, or of which --type and --from say that they are not wanted.
	Young    int `json:"young"`
	Unknown  int `json:"unknown"`
	Unwanted int `json:"unwanted"`

	Oldest    time.Time   `json:"oldest,omitzero"` // of the undelivered, as Latest
	Latest    time.Time   `json:"latest,omitzero"`
	Types     []typeCount `json:"types"`  // of which something is undelivered
	Events    []eventJSON `json:"events"` // the oldest undelivered ones
	Reasons   []reason    `json:"reasons"`
	GoOnAfter string      `json:"goOnAfter,omitempty"` // for --after: the table was not read to its end
	failure
}

// reason is a likely one, or what a number means, and what to do.
type reason struct {
	Because string `json:"because"`
	Do      string `json:"do,omitempty"`
}

// tell prints the result. Its error is failed, or errFound.
func (r *reconciliation) tell(found replay.ReconcileResult, failed error) error {
	if failed != nil && r.walk.read == 0 { // there is nothing to tell
		return failed
	}
	if failed == nil {
		r.walk.judged() // the last page
	}
	r.keepOldest()
	out := reconciled{
		OK:       failed == nil && found.Undelivered == 0 && found.Unreadable == 0,
		Searched: found.Searched, Handled: found.Handled, Claimed: found.Claimed, DeadLetters: found.DeadLetters, Undelivered: found.Undelivered,
		Unreadable: found.Unreadable, Young: found.Young, Unknown: found.Unknown, Unwanted: found.Unwanted,
		Oldest: found.Oldest.UTC(), Latest: r.latest.UTC(), Types: r.walk.missed(), Events: []eventJSON{}, Reasons: []reason{},
	}
	for _, e := range r.listed {
		out.Events = append(out.Events, asJSON(e, false))
	}
	if failed == nil {
		out.Reasons = append(out.Reasons, r.reasons(&out)...)
	} else {
		out.Error, out.GoOnAfter = r.explain(failed), r.walk.after
	}
	for _, err := range r.unreadable {
		r.warn("cannot be read: %s", r.explain(err))
	}
	if more := found.Unreadable - len(r.unreadable); more > 0 {
		r.warn("cannot be read: %d more", more)
	}
	print := r.print
	if r.json() {
		print = func(out *reconciled) error { return r.printJSON(out) }
	}
	if err := print(&out); err != nil || failed != nil {
		return errors.Join(failed, err)
	}
	r.noteNothing(&out)
	if !out.OK {
		return errFound
	}
	return nil
}

// noteNothing tells what a result may be about that says nothing of some events.
func (r *reconciliation) noteNothing(out *reconciled) {
	if out.Searched == 0 && r.f.after == "" {
		r.note("table %s has no events; if its attributes have other names, give --attributes", r.f.table)
		return
	}
	for _, name := range r.f.types {
		if r.walk.types[firstOf(name, longestType)] == nil {
			r.note("no event of type %s could be judged; the name may be wrong", name)
		}
	}
}

// print tells the result as text.
func (r *reconciliation) print(out *reconciled) error {
	p := r.paint(r.out)
	for _, e := range r.listed {
		if err := r.printEvent(e, false, false); err != nil {
			return err
		}
	}
	if more := out.Undelivered - len(r.listed); more > 0 {
		fmt.Fprintf(r.out, "and %d more, of later times: --limit lists up to %d\n", more, mostListed)
	}
	if len(out.Types) > 1 {
		rows := [][]string{{"TYPE", "UNDELIVERED", "JUDGED"}}
		for _, t := range out.Types[:min(len(out.Types), mostTold)] {
			rows = append(rows, []string{t.Type, fmt.Sprint(t.Undelivered), fmt.Sprint(t.Judged)})
		}
		if err := r.columns(rows); err != nil {
			return err
		}
		if more := len(out.Types) - mostTold; more > 0 {
			fmt.Fprintf(r.out, "and %s more\n", count(more, "type"))
		}
	}
	fmt.Fprintln(r.out, out.counts(r.f))
	switch {
	case out.Error != "":
		text := "the table was not read to its end"
		if out.GoOnAfter != "" {
			text += "; to go on: " + r.f.again("--after="+out.GoOnAfter)
		}
		fmt.Fprintln(r.out, p.yellow(text))
	case out.Undelivered > 0:
		fmt.Fprintf(r.out, "%s undelivered, with times from %s to %s\n", p.red(are(out.Undelivered, "event")), out.Oldest.Format(time.RFC3339), out.Latest.Format(time.RFC3339))
	case out.Handled+out.Claimed+out.DeadLetters == 0:
		fmt.Fprintln(r.out, p.yellow("no event could be judged"))
	default:
		fmt.Fprintln(r.out, p.green("nothing is undelivered of what could be judged"))
	}
	for _, reason := range out.Reasons {
		fmt.Fprintf(r.out, "because  %s\n", printable(reason.Because))
		if reason.Do != "" {
			fmt.Fprintf(r.out, "     do: %s\n", printable(reason.Do))
		}
	}
	return r.out.err()
}

func are(n int, thing string) string {
	if n == 1 {
		return count(n, thing) + " is"
	}
	return count(n, thing) + " are"
}

// counts writes the numbers that are not zero.
func (out *reconciled) counts(f *reconcileFlags) string {
	parts := []string{}
	for _, part := range []struct {
		n    int
		text string
	}{
		{out.Handled, "handled"}, {out.Claimed, "being handled"}, {out.DeadLetters, "given up (dead letters)"}, {out.Undelivered, "undelivered"}, {out.Unreadable, "unreadable"},
		{out.Young, "younger than " + age(f.grace)}, {out.Unknown, "too old to be judged"}, {out.Unwanted, "unwanted"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	if len(parts) == 0 {
		return "0 events read"
	}
	return count(out.Searched, "event") + " read: " + strings.Join(parts, ", ")
}

// reasons says of a run that has read all why something may be undelivered, and what to do.
func (r *reconciliation) reasons(out *reconciled) (reasons []reason) {
	add := func(do, format string, args ...any) {
		reasons = append(reasons, reason{fmt.Sprintf(format, args...), do})
	}
	if out.Unreadable > 0 {
		add("find out who writes such rows, or give --attributes what the service gives WithAttributes", "no consumer can handle a row that cannot be read")
	}
	if out.Undelivered == 0 {
		return reasons
	}
	if out.Handled == 0 && !r.inbox.has {
		add("compare --consumer, --inbox and --table with what the service gives NewInbox and NewWriter",
			"nothing of consumer %s and table %s is known to the inbox, as far as it was read: a name may be another, or the consumer has never worked. %s", r.f.consumer, names.OfTable(r.f.table), r.inbox)
		return reasons
	}
	unknown, others := r.unknownTypes(out)
	if len(unknown) > 0 {
		do := r.f.other("doctor", "--table", r.f.table, "--function", "F") + " shows filters"
		if wanted := r.otherTypes(unknown); len(wanted) > 0 {
			do += "; without these types: " + r.f.again(wanted...)
		}
		add(do, "no event of type %s is known to the inbox: the consumer may have no handler of it, or one outside the inbox, or Ignore; or a filter leaves it out", strings.Join(unknown[:min(len(unknown), mostTold)], ", "))
	}
	if len(others) > 0 {
		if r.latestIsMissing(others) {
			add("see how far it is ("+r.named("status", "--group", "G")+"; of a function, IteratorAge), and look again with a longer --grace",
				"the latest event is among them: the consumer may be down, or more than %s behind", age(r.f.grace))
		} else {
			add(r.f.other("doctor", "--table", r.f.table)+`; "Events that never reached the stream" in docs/operating.md; the log of the consumer. If it has begun later: --since`,
				"later events are not among them: these were lost on the way and do not come by themselves, or their handler fails again and again")
		}
	}
	r.addLetters(out, add)
	add(r.bringBack(out.Undelivered), "nothing was delivered: this command has no handlers")
	return reasons
}

// unknownTypes are the types of which every event is undelivered, though some of another type are handled. others are the rest of those that miss
// something.
func (r *reconciliation) unknownTypes(out *reconciled) (unknown []string, others []typeCount) {
	for _, t := range out.Types {
		if t.Undelivered >= t.Judged && out.Handled > 0 {
			unknown = append(unknown, t.Type)
		} else {
			others = append(others, t)
		}
	}
	return unknown, others
}

// otherTypes are the flags for a run without types, unless the run had such flags, or there would be too many.
func (r *reconciliation) otherTypes(without []string) (flags []string) {
	for _, name := range slices.Sorted(maps.Keys(r.walk.types)) {
		if !slices.Contains(without, name) {
			flags = append(flags, "--type", name)
		}
	}
	if len(r.f.types) > 0 || len(r.walk.types) > mostTold {
		return nil
	}
	return flags
}

// latestIsMissing reports whether the latest event of the types is undelivered.
func (r *reconciliation) latestIsMissing(types []typeCount) bool {
	var latest, missing time.Time
	for _, t := range types {
		if t.latest.After(latest) {
			latest = t.latest
		}
		if t.latestUndelivered.After(missing) {
			missing = t.latestUndelivered
		}
	}
	return !latest.After(missing)
}

// addLetters says what may be wrong with the dead letters, which would then be counted as undelivered.
func (r *reconciliation) addLetters(out *reconciled, add func(do, format string, args ...any)) {
	_, known := r.letters[r.f.lettersOf()]
	switch {
	case r.f.letters == "":
		add("if the consumer has dead letters, look again with --dead-letters TABLE", "no dead letter table was asked: letters are among them, if there are any")
	case !known && r.allLetters && len(r.letters) > 0:
		add("if the service gives NewDeadLetterTable another name than NewInbox, look again with --dead-letters-consumer",
			"table %s has no dead letter of consumer %s, but of %s", r.f.letters, r.f.lettersOf(), firstOf(knownList(r.letters), 10*longestType))
	}
}

// What ReconcileOptions.MaxDeliver is by default, and at most.
const (
	usualMaxDeliver = 1000
	mostMaxDeliver  = 100_000
)

// bringBack says how the undelivered events reach a handler.
func (r *reconciliation) bringBack(undelivered int) string {
	call := `call Reconcile in the service, which delivers each once ("Nothing is missing" in docs/replay.md)`
	switch {
	case undelivered > mostMaxDeliver:
		call += fmt.Sprintf(", with an Every and a Cycle of so many segments that none has more than %d of the events, the most that a MaxDeliver allows; or call replay.To, from the oldest to the latest", mostMaxDeliver)
	case undelivered > usualMaxDeliver:
		call += fmt.Sprintf(", with a MaxDeliver of %d or more (%d at most)", undelivered, mostMaxDeliver)
	}
	if r.f.order || len(r.listed) == 0 {
		return call
	}
	return call + ". Or write copies, for each id, with what the service gives WithTTL as --ttl: " + r.f.other("replay", "--table", r.f.table, "--id="+r.listed[0].ID, "--again", "--run", "reconcile") +
		". Every consumer handles a copy, also one that had the event, and the event itself stays undelivered here"
}
