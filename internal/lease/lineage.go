package lease

// lineage is a view's leases with what they continue.
type lineage struct {
	rows   map[string]*Lease
	hollow []*Lease // the shards that were read to their end, and of which records are unfinished; usually none
}

func newLineage(v View) *lineage {
	line := &lineage{rows: make(map[string]*Lease, len(v.Leases))}
	for i := range v.Leases {
		l := &v.Leases[i]
		line.rows[l.ID] = l
		if l.ended() && !l.finished() && !l.Gone {
			line.hollow = append(line.hollow, l)
		}
	}
	return line
}

// ahead returns the keys of the unfinished records in the ancestors of a shard. They get fewer, never more, once all ancestors have ended. ok
// is false if one of them has not ended in this view: its rows were not read at one moment, and the ancestor's is older than the shard's.
//
// Where the table has forgotten an ancestor, the shards before it are not known. Then every ended shard with a smaller id counts, so that
// two shards never wait for each other.
func (line *lineage) ahead(l Lease) (keys map[uint64]bool, ok bool) {
	ok, gaps := true, false
	seen := map[string]bool{l.ID: true}
	var ancestors []*Lease
	for next := l.Parents; len(next) > 0; {
		id := next[len(next)-1]
		next = next[: len(next)-1 : len(next)-1]
		if seen[id] {
			continue
		}
		seen[id] = true
		row := line.rows[id]
		switch {
		case row == nil:
			gaps = true
			continue
		case row.Gone:
		case !row.ended():
			ok = false
		default:
			ancestors = append(ancestors, row)
		}
		next = append(next, row.Parents...)
	}
	if len(line.hollow) == 0 {
		return nil, ok
	}
	for _, row := range line.hollow {
		if gaps && row.ID < l.ID {
			ancestors = append(ancestors, row)
		}
	}
	for _, row := range ancestors {
		for _, hole := range row.Holes {
			if hole.Key != 0 {
				if keys == nil {
					keys = map[uint64]bool{}
				}
				keys[hole.Key] = true
			}
		}
	}
	return keys, ok
}
