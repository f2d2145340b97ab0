package kinesis

import "github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"

// operations is the model: which operations there are, their members and the
// constraints that are checked before an operation runs.
func operations() map[string]operation {
	const (
		namePattern = `[a-zA-Z0-9_.-]+`
		hashPattern = `0|([1-9]\d{0,38})`
		seqPattern  = `0|([1-9]\d{0,128})`
		arnPattern  = `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`
	)
	name := func(field string) shape.Field { return shape.String(field).Match(namePattern).Range(1, 128) }
	arn := shape.String("StreamARN").Match(arnPattern).Range(1, 2048)
	streamName := name("StreamName")
	mode := shape.Structure("StreamModeDetails", shape.String("StreamMode").Required().OneOf("PROVISIONED", "ON_DEMAND"))
	distribution := shape.String("RecordDistributionStrategy").OneOf("AUTO", "USER_PARTITION_KEY")
	recordSize := shape.Integer("MaxRecordSizeInKiB").Range(1024, 10240)
	hours := shape.Integer("RetentionPeriodHours").Required()
	// The order of the members is the order in which violations are reported.
	put := []shape.Field{
		shape.String("PartitionKey").Required().Range(1, 256),
		shape.String("ExplicitHashKey").Match(hashPattern),
		shape.Blob("Data").Required().AtMost(10 << 20),
	}
	ops := map[string]operation{
		"CreateStream": {[]shape.Field{shape.Integer("ShardCount").Range(1, 100000), streamName.Required(), mode,
			recordSize, distribution, shape.Map("Tags").Range(1, 200).EntryLengths(1, 128, 0, 256)}, (*Engine).createStream},
		"DeleteStream":          {[]shape.Field{streamName, arn, shape.Boolean("EnforceConsumerDeletion")}, (*Engine).deleteStream},
		"DescribeStreamSummary": {[]shape.Field{streamName, arn}, (*Engine).describeStreamSummary},
		"DescribeLimits":        {nil, (*Engine).describeLimits},
		"DescribeStream": {[]shape.Field{shape.Integer("Limit").Range(1, 10000), name("ExclusiveStartShardId"),
			streamName, arn}, (*Engine).describeStream},
		"ListStreams": {[]shape.Field{shape.Integer("Limit").Range(1, 10000), name("ExclusiveStartStreamName"),
			shape.String("NextToken").Range(1, 1048576)}, (*Engine).listStreams},
		"ListShards": {[]shape.Field{name("ExclusiveStartShardId"), shape.Integer("MaxResults").Range(1, 10000),
			shape.String("NextToken").Range(1, 1048576), shape.Timestamp("StreamCreationTimestamp"), streamName, arn,
			shape.Structure("ShardFilter", shape.String("Type").Required().OneOf("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON",
				"AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP"), name("ShardId"), shape.Timestamp("Timestamp"))}, (*Engine).listShards},
		"PutRecord": {append([]shape.Field{shape.String("SequenceNumberForOrdering").Match(seqPattern)},
			append(put, streamName, arn)...), (*Engine).putRecord},
		"PutRecords": {[]shape.Field{shape.List("Records", shape.Structure("", put...).Required(),
			"com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310").Required().Range(1, 500), streamName, arn}, (*Engine).putRecords},
		"GetShardIterator": {[]shape.Field{name("ShardId").Required(),
			shape.String("ShardIteratorType").Required().OneOf("AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"),
			shape.String("StartingSequenceNumber").Match(seqPattern), streamName, arn, shape.Timestamp("Timestamp")}, (*Engine).getShardIterator},
		"GetRecords": {[]shape.Field{shape.Integer("Limit").Range(1, maxRecords),
			shape.String("ShardIterator").Required().Range(1, 512), arn}, (*Engine).getRecords},
		"SplitShard": {[]shape.Field{shape.String("NewStartingHashKey").Required().Match(hashPattern), streamName, arn,
			name("ShardToSplit").Required()}, (*Engine).splitShard},
		"MergeShards": {[]shape.Field{name("ShardToMerge").Required(), name("AdjacentShardToMerge").Required(), streamName, arn}, (*Engine).mergeShards},
		"UpdateShardCount": {[]shape.Field{shape.Integer("TargetShardCount").Required().Range(1, -1),
			shape.String("ScalingType").Required().OneOf("UNIFORM_SCALING"), streamName, arn}, (*Engine).updateShardCount},
		"IncreaseStreamRetentionPeriod": {[]shape.Field{hours, streamName, arn}, (*Engine).increaseRetention},
		"DecreaseStreamRetentionPeriod": {[]shape.Field{hours, streamName, arn}, (*Engine).decreaseRetention},
		"UpdateStreamMode": {[]shape.Field{arn.Required(), shape.Structure("StreamModeDetails",
			shape.String("StreamMode").Required().OneOf("PROVISIONED", "ON_DEMAND")).Required()}, (*Engine).updateMode},
		"UpdateMaxRecordSize":                    {[]shape.Field{recordSize.Required(), arn.Required()}, (*Engine).updateRecordSize},
		"UpdateStreamRecordDistributionStrategy": {[]shape.Field{distribution.Required(), arn.Required()}, (*Engine).updateDistribution},
		"AddTagsToStream": {[]shape.Field{shape.Map("Tags").Required().Range(1, 200).EntryLengths(1, 128, 0, 256),
			streamName, arn}, (*Engine).addTags},
		"RemoveTagsFromStream": {[]shape.Field{shape.List("TagKeys", shape.String("").Required().Range(1, 128), "").Required().Range(1, 50),
			streamName, arn}, (*Engine).removeTags},
		"ListTagsForStream": {[]shape.Field{shape.Integer("Limit").Range(1, 50), shape.String("ExclusiveStartTagKey").Range(1, 128),
			streamName, arn}, (*Engine).listTags},
	}
	return ops
}
