package deadletter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// newStore is a Store over an empty table.
func newStore(t *testing.T) *deadletter.Store {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	return s
}

// put stores a letter.
func put(t *testing.T, s *deadletter.Store, l *deadletter.Letter) {
	_, err := s.Put(t.Context(), l)
	require.NoError(t, err)
}

// all is a match that every letter passes.
func all(*deadletter.Letter) bool { return true }
