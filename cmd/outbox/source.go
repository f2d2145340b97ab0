package main

import (
	"fmt"

	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// anyStream returns what is wrong with a flag that names a Kinesis stream, by name or ARN, or a DynamoDB stream, by ARN.
func anyStream(value string) error {
	if names.DynamoDBStream(value) == nil {
		return nil
	}
	if err := names.KinesisStream(value); err != nil {
		return fmt.Errorf("%w; or the ARN of a DynamoDB stream (LatestStreamArn of aws dynamodb describe-table)", err)
	}
	return nil
}

// sourceOf returns the stream that anyStream has let pass.
func sourceOf(c *clients, stream string) shardreader.Source {
	if names.DynamoDBStream(stream) == nil {
		return &shardreader.Streams{Client: c.streams, ARN: stream}
	}
	return &shardreader.Kinesis{Client: c.kinesis, Stream: stream}
}
