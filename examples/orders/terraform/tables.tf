# The tables. Their keys and times to live are those that the code creates; the contract test compares them.

resource "aws_dynamodb_table" "orders" {
  name         = "${var.name}-orders"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "orderId"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "orderId"
    type = "S"
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled = true
  }
}

resource "aws_dynamodb_table" "events" {
  name         = "${var.name}-events"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "eventId"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "eventId"
    type = "S"
  }
  ttl {
    attribute_name = "expiresAt"
    enabled        = true
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled = true
  }
}

resource "aws_dynamodb_table" "inbox" {
  name         = "${var.name}-inbox"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "eventId"
  range_key    = "consumer"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "eventId"
    type = "S"
  }
  attribute {
    name = "consumer"
    type = "S"
  }
  ttl {
    attribute_name = "expiresAt"
    enabled        = true
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled = true
  }
}

resource "aws_dynamodb_table" "dead_letters" {
  name         = "${var.name}-dead-letters"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "group"
  range_key    = "id"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "group"
    type = "S"
  }
  attribute {
    name = "id"
    type = "S"
  }
  ttl {
    attribute_name = "expiresAt"
    enabled        = true
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled = true
  }
}

resource "aws_dynamodb_table" "leases" {
  count        = var.with_worker ? 1 : 0
  name         = "${var.name}-leases"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "group"
  range_key    = "id"

  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "group"
    type = "S"
  }
  attribute {
    name = "id"
    type = "S"
  }
  ttl {
    attribute_name = "ttl"
    enabled        = true
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled = true
  }
}

# Encrypted with the key that AWS keeps for Kinesis: it needs no permissions of DynamoDB, of Lambda, or of the functions.
resource "aws_kinesis_stream" "events" {
  name             = "${var.name}-events"
  shard_count      = var.shards
  retention_period = var.retention_days * 24
  encryption_type  = "KMS"
  kms_key_id       = "alias/aws/kinesis"

  stream_mode_details {
    stream_mode = "PROVISIONED"
  }
}

resource "aws_dynamodb_kinesis_streaming_destination" "events" {
  table_name                               = aws_dynamodb_table.events.name
  stream_arn                               = aws_kinesis_stream.events.arn
  approximate_creation_date_time_precision = "MICROSECOND"
}

# Its messages say which records of which shard were given up, not what is in them. The rows are in the events table for 30 days.
resource "aws_sqs_queue" "failures" {
  name                      = "${var.name}-failures"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}
