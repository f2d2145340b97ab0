package outbox_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// Every constructor takes the names and ARNs that can work, and refuses the others before any call.
func TestConstructorsRefuseWhatCanNeverWork(t *testing.T) {
	cloud := outboxtest.Start(t)
	c := newConsumer(t, quiet())
	const (
		stream = "arn:aws-us-gov:kinesis:us-gov-west-1:123456789012:stream/events"
		table  = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/events"
		change = table + "/stream/2026-01-31T12:00:00.000"
		index  = table + "/index/byType"
		queue  = "arn:aws:sqs:us-east-1:123456789012:events"
		fanOut = stream + "/consumer/mails:1700000000"
	)
	all := []string{"events", "e", "", strings.Repeat("n", 129), strings.Repeat("n", 256), "my events", stream, table, change, index, queue, fanOut}
	tables := []string{"events", strings.Repeat("n", 129), table}
	for constructor, x := range map[string]struct {
		make func(name string) error
		take []string
	}{
		"NewWorker": {func(name string) error {
			_, err := outbox.NewWorker(cloud.Kinesis, name, c, new(outbox.MemoryLeases))
			return err
		}, []string{"events", "e", stream}},
		"NewStreamsWorker": {func(name string) error {
			_, err := outbox.NewStreamsWorker(cloud.Streams, name, c, new(outbox.MemoryLeases))
			return err
		}, []string{change}},
		"NewLeaseTable": {func(name string) error { _, err := outbox.NewLeaseTable(cloud.DynamoDB, name, "mails"); return err }, tables},
		"NewInbox":      {func(name string) error { _, err := outbox.NewInbox(cloud.DynamoDB, name, "mails"); return err }, tables},
		"NewDeadLetterTable": {func(name string) error {
			_, err := outbox.NewDeadLetterTable(cloud.DynamoDB, name, "mails")
			return err
		}, tables},
		"NewWriter":   {func(name string) error { _, err := outbox.NewWriter(cloud.DynamoDB, name); return err }, tables},
		"replay: New": {func(name string) error { _, err := replay.New(cloud.DynamoDB, name); return err }, tables},
	} {
		taken := map[string]bool{}
		for _, name := range x.take {
			taken[name] = true
		}
		for _, name := range all {
			err := x.make(name)
			require.Equal(t, taken[name], err == nil, "%s: %q: %v", constructor, name, err)
			if err != nil {
				require.ErrorContains(t, err, constructor)
				require.ErrorContains(t, err, "want ")
			}
		}
	}
	_, err := outbox.NewLeaseTable(cloud.DynamoDB, "leases", strings.Repeat("g", 2049))
	require.ErrorContains(t, err, "at most 2048 bytes")
	_, err = outbox.NewLeaseTable(cloud.DynamoDB, "leases", "\xff")
	require.ErrorContains(t, err, "UTF-8")
	_, err = outbox.NewDeadLetterTable(cloud.DynamoDB, "dead", "\xff")
	require.ErrorContains(t, err, "UTF-8")
}

// refusing is a Kinesis that finds a request invalid, for whatever reason a name does not show.
type refusing struct{ outbox.KinesisClient }

func (refusing) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	return nil, apiError{code: "ValidationException"}
}

// No repeat heals an invalid request. So it is logged as an error, not as a warning for ever.
func TestAnInvalidRequestIsLoggedAsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		outbox.Handle(c, ignoreEvent)
		w, err := outbox.NewWorker(refusing{f.Kinesis}, "events", c, f.leases)
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(3 * time.Second)
		require.NoError(t, r.stop())
		require.Contains(t, log.String(), "level=ERROR")
		require.Contains(t, log.String(), "operation=Shards error=ValidationException")
		require.NotContains(t, log.String(), "level=WARN")
	})
}
