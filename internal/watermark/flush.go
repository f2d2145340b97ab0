package watermark

import "time"

// Flush decides when a mark is to be stored as the checkpoint: when Every has passed since the last time, or the finished
// prefix has grown by Records. A mark that has not moved is never stored again. It is not safe for concurrent use.
type Flush struct {
	Every   time.Duration
	Records int

	since  time.Time // when the last mark was stored; before the first, when it was first asked about one
	stored uint64
}

// Due reports whether m is to be stored now.
func (f *Flush) Due(m Mark, now time.Time) bool {
	if f.since.IsZero() {
		f.since = now
	}
	moved := m.Finished - f.stored
	return moved > 0 && (moved >= uint64(max(f.Records, 1)) || now.Sub(f.since) >= f.Every)
}

// Stored says that m has been stored, at the time now. A mark whose storing failed is due again at once.
func (f *Flush) Stored(m Mark, now time.Time) { f.since, f.stored = now, m.Finished }

// Next returns the number of finished records at which the next mark is due, whatever the time: what to wait for.
func (f *Flush) Next() uint64 { return f.stored + uint64(max(f.Records, 1)) }
