package service

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// keyMailer notes the keys of mails. It is called by one goroutine at a time.
type keyMailer struct{ keys []string }

func (m *keyMailer) Confirm(_ context.Context, key string, _ OrderCreated) error {
	m.keys = append(m.keys, key)
	return nil
}

func (m *keyMailer) Changed(_ context.Context, key string, _ OrderChanged) error {
	m.keys = append(m.keys, key)
	return nil
}

// A copy that outbox replay --again has written has the key of its original, so a mail provider with keys sends one mail.
func TestACopyHasTheKeyOfItsOriginal(t *testing.T) {
	quiet(t)
	mails := &keyMailer{}
	cloud, api, _, _ := mapped(t, mails)
	placed(t, api, "a@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	writer, err := outbox.NewWriter(cloud.DynamoDB, local.EventsTable)
	require.NoError(t, err)
	events, err := replay.New(cloud.DynamoDB, local.EventsTable)
	require.NoError(t, err)
	result, err := events.Again(t.Context(), replay.Query{To: time.Now().Add(time.Minute)}, writer, "run", replay.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Done)
	require.NoError(t, cloud.Drain(t.Context()))
	require.Len(t, mails.keys, 2)
	require.Equal(t, mails.keys[0], mails.keys[1])
}
