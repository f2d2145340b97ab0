package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// allForeign is what a careless user gives WithForeignRecords.
func allForeign([]byte) bool { return true }

// packed is a record of the Kinesis Producer Library.
const packed = "\xf3\x89\x9a\xc2\n\x09WEBSOCKET\x1a\x10{\"id\": \"c2de27b\"}0123456789abcdef"

// foreign is what else lies on shared streams.
var foreign = []string{"Hello, this is a test 123.", "\x1f\x8b\x08", "\xf3\x89", "\xef\xbb\xbf{}", "{\"a\":1}\n{\"a\":2}", "{} {}", "{}x", " \x00", "[1", "\"text", "nul"}

// passedOver reports whether an invocation with the one record is finished.
func passedOver(t testing.TB, c *outbox.Consumer, data string) bool {
	out, err := c.Invoke(t.Context(), kinesisEvent(data))
	return err == nil && string(out) == unfinished("")
}

// Every prefix of real change records, and what is damaged behind the beginning, is poison even if the user says that all is foreign.
func TestNoPartOfAChangeRecordIsForeign(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "records", "*.json"))
	require.NoError(t, err)
	asked, refused := 0, 0
	c := newConsumer(t, outbox.WithForeignRecords(func([]byte) bool { asked++; return true }))
	for _, file := range files {
		whole := string(bytes.TrimSpace(golden(t, strings.TrimSuffix(filepath.Base(file), ".json"))))
		if !strings.Contains(whole, `"eventName"`) {
			continue // that of somebody else
		}
		for n := range len(whole) + 1 {
			for _, data := range []string{whole[:n], "\n " + whole[:n], whole[:n] + "\x00", whole[:n] + "}", whole[:n] + whole} {
				if strings.TrimSpace(whole[:n]) == "" && data != "" && data[0] != '{' && data[0] != '\n' {
					continue // begins with what no change record begins with
				}
				if _, err := outbox.DecodeRecord([]byte(data)); err == nil || errors.Is(err, outbox.ErrNotEvent) {
					continue // a removal, whose rest nobody reads
				}
				refused++
				require.False(t, passedOver(t, c, data), "%s cut off after %d bytes: %q", file, n, data)
			}
		}
	}
	require.Greater(t, refused, 10_000)
	require.Zero(t, asked, "the user is not even asked")
}

func TestForeignRecordsArePassedOver(t *testing.T) {
	for _, data := range append(foreign, packed) {
		var handled, skipped int
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithForeignRecords(allForeign), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
			outbox.WithConsumerHooks(outbox.ConsumerHooks{Skipped: func(_ context.Context, r outbox.Record, reason error) {
				require.ErrorIs(t, reason, outbox.ErrNotEvent)
				require.NotEmpty(t, r.SequenceNumber)
				skipped++
			}}))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { handled++; return nil })
		invocation := kinesisEvent(data, changeRecord("1", "a"), data)
		out, err := c.Invoke(t.Context(), invocation)
		require.NoError(t, err, "%q", data)
		require.JSONEq(t, unfinished(""), string(out))
		require.Equal(t, []int{1, 2}, []int{handled, skipped}, "%q", data)
		require.Equal(t, data == packed, strings.Contains(log.String(), "Kinesis Producer Library"), "%q", data)
		require.LessOrEqual(t, strings.Count(log.String(), "\n"), 1)

		// Who says that nothing is foreign has it as without the option: all but what is packed is poison.
		for _, more := range [][]outbox.ConsumerOption{nil, {outbox.WithForeignRecords(func([]byte) bool { return false })}, {outbox.WithForeignRecords(func([]byte) bool { panic("mine") })}} {
			require.Equal(t, data == packed, passedOver(t, newConsumer(t, more...), data), "%q", data)
		}
	}
	require.False(t, passedOver(t, newConsumer(t, outbox.WithForeignRecords(allForeign)), ""), "an empty record may be the rest of an event")
	_, err := outbox.NewConsumer(outbox.WithForeignRecords(nil))
	require.ErrorContains(t, err, "WithForeignRecords: the function is nil")
	_, err = outbox.NewConsumer(outbox.WithForeignRecords(allForeign), outbox.WithForeignRecords(allForeign))
	require.ErrorContains(t, err, "WithForeignRecords: a Consumer has one function")
}

// A Worker without a dead letter table goes on behind foreign records.
func TestAWorkerGoesOnBehindForeignRecords(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := newConsumer(t, outbox.WithForeignRecords(allForeign))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { cancel(); return nil })
	for _, data := range append(foreign, packed) {
		_, err := cloud.Kinesis.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("events"), PartitionKey: aws.String("p"), Data: []byte(data)})
		require.NoError(t, err)
	}
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	require.NoError(t, writer.Transact(ctx, nil, event("1")))
	worker, err := outbox.NewWorker(cloud.Kinesis, "events", c, new(outbox.MemoryLeases))
	require.NoError(t, err)
	require.NoError(t, worker.Run(ctx))
	require.ErrorIs(t, ctx.Err(), context.Canceled, "the event was not handled")
}
