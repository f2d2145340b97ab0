package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestTheFlagForAttributesSaysWhatWithAttributesSays(t *testing.T) {
	want := outbox.DefaultAttributes()
	want.ID, want.Headers = "id", outbox.NoAttribute
	got, err := (&attributesFlag{map[string]string{"id": "id", "headers": "-"}}).read()
	require.NoError(t, err)
	require.Equal(t, want, got)
	for flag, wrong := range map[string]map[string]string{
		`--attributes: there is no "ID": want aggregateId, contentType, expiresAt, headers, id, payload, sequence, time, type`: {"ID": "id"},
		`--attributes: id has no name: give one, or leave it out; - is for a table without it`:                                 {"id": ""},
		`--attributes: outbox: NewConsumer: attributes: ID and Type are both named "x"`:                                        {"id": "x", "type": "x"},
		`--attributes: outbox: NewConsumer: attributes: an event row needs ID and Type`:                                        {"type": "-"},
	} {
		_, err := (&attributesFlag{wrong}).read()
		require.ErrorContains(t, err, flag)
	}
}
