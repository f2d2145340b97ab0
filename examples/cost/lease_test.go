package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/itemsize"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The rows of a lease table, while a worker owns ten shards, and each has a checkpoint, take about what the tables count with.
func TestTheSizeOfALeaseRow(t *testing.T) {
	const shards = 10
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", shards)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	for range 200 {
		require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("", payload(sample(300)))))
	}
	consumer, err := outbox.NewConsumer()
	require.NoError(t, err)
	leases, err := outbox.NewLeaseTable(cloud.DynamoDB, "leases", "confirmations")
	require.NoError(t, err)
	require.NoError(t, leases.Create(t.Context()))
	worker, err := outbox.NewWorker(cloud.Kinesis, "events", consumer, leases)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	require.Eventually(t, func() bool {
		status, err := leases.Status(t.Context(), "events")
		require.NoError(t, err)
		done := 0
		for _, s := range status {
			if s.Owner != "" && s.Checkpoint != "" {
				done++
			}
		}
		return done == shards
	}, time.Minute, 10*time.Millisecond)
	table, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("leases")})
	require.NoError(t, err)
	stop()
	require.NoError(t, <-ended)
	leasesTake, workerTakes := 0, 0
	for _, row := range table.Items {
		n, err := itemsize.Of(row)
		require.NoError(t, err)
		switch id := row["id"].(*types.AttributeValueMemberS).Value; {
		case strings.Contains(id, "#L#"):
			leasesTake += n
		case strings.Contains(id, "#W#"):
			workerTakes += n
		}
	}
	require.Len(t, table.Items, shards+2, "the shards, the worker, and where the group begins")
	require.InEpsilon(t, leaseRow, leasesTake/shards, 0.15, "%d bytes", leasesTake/shards)
	require.InEpsilon(t, workerRow, workerTakes, 0.15, "%d bytes", workerTakes)
}
