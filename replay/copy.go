package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/seed-1b628d3f/outbox"
)

// copyMark stands in the id of a copy, between the original's id and the name of the run.
const copyMark = "#replay#"

// copyID returns the id of a run's copy. It ends with a check of all that is before it. So an id that somebody derives from a
// copy's id, in front or behind, is not the id of a copy.
func copyID(original, run string) string {
	id := original + copyMark + run
	sum := sha256.Sum256([]byte(id))
	return id + "#" + hex.EncodeToString(sum[:4])
}

// Original returns the id of the event that [Events.Again] copied, from the id of the copy. If id is not the id of a copy, Original
// returns id itself, and false. So the first result is the same for an event and all its copies, as an idempotency key must be.
func Original(id string) (original string, copied bool) {
	original, rest, found := cutLast(id, copyMark)
	run, _, checked := cutLast(rest, "#")
	if !found || !checked || original == "" || copyID(original, run) != id {
		return id, false
	}
	return original, true
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

func copyOf(r outbox.Record, run string) outbox.Record {
	original, _ := Original(r.ID)
	r.ID = copyID(original, run)
	return r
}

// copies holds the ids of the events that a replay has passed on, as themselves or as a copy.
type copies map[string]bool

// leaveOut reports whether the id is that of a copy, and its original, or another copy, was passed on. Otherwise it notes that the
// event is passed on. An original comes before its copies (inOrder).
func (c copies) leaveOut(id string) bool {
	original, copied := Original(id)
	known := copied && c[original]
	c[original] = true
	return known
}

// placeCopies gives copies the time of their originals. A Writer cuts times to milliseconds, so a copy may be a little earlier.
func placeCopies(keys []key) {
	originals := make(map[string]key, len(keys))
	for _, k := range keys {
		originals[k.id] = k
	}
	for i := range keys {
		if original, copied := Original(keys[i].id); copied {
			if k, found := originals[original]; found {
				keys[i].at = k.at
			}
		}
	}
}
