package lease

import (
	"errors"
	"fmt"
	"strings"
)

// check returns an error if the view cannot be all that the table has: an answer that is empty, cut short or out of date. me is the worker
// that asked, and beat its last confirmed beat when it asked. Whoever believed such a view would take rows that it lacks for deleted.
func (v View) check(me string, beat int64) error {
	for _, row := range v.Leases {
		if err := row.check(); err != nil {
			return err
		}
	}
	for _, w := range v.Workers {
		switch {
		case w.ID != me:
		case !w.Dead && w.Beat < beat:
			return fmt.Errorf("the table's answer is out of date: it has beat %d of this worker, and beat %d is stored", w.Beat, beat)
		default:
			return nil
		}
	}
	return fmt.Errorf("the table's answer lacks the row of this worker, %s, so it may lack other rows, too", me)
}

// check returns an error if the row lacks what every lease has.
func (l Lease) check() error {
	var lacks []string
	if l.ID == "" {
		lacks = append(lacks, "the shard's id")
	}
	if l.Checkpoint == "" {
		lacks = append(lacks, "a checkpoint")
	}
	if l.Owner != "" && l.Fence == 0 {
		lacks = append(lacks, "the fence of its owner")
	}
	if len(lacks) > 0 {
		return fmt.Errorf("the table's answer has a lease of shard %q without %s", l.ID, strings.Join(lacks, " and "))
	}
	return nil
}

// acquired returns an error if now is not what the acquisition of seen by worker makes.
func acquired(seen, now Lease, worker string) error {
	if want := (Key{seen.ID, worker, seen.Fence + 1}); now.Key() != want {
		return fmt.Errorf("the answer to an acquisition has lease %+v, not %+v", now.Key(), want)
	}
	return now.check()
}

var errNoCheckpoint = errors.New("progress without a checkpoint cannot be stored")
