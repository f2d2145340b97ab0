locals {
  alarm_actions = var.alarm_topic == "" ? [] : [var.alarm_topic]

  # The metrics of the destination have a dimension DelegatedOperation, whose value is not documented; so these ask for the table's,
  # whatever the other dimension is.
  queries = {
    failed-to-replicate = {
      description = "DynamoDB gave change records up: events that no consumer gets. Replay them from the events table."
      select      = "SUM(FailedToReplicateRecordCount)"
      threshold   = 0
      period      = 60
      periods     = 1
    }
    unreplicated = {
      description = "Changes of the events table have waited for more than a minute for the stream, for fifteen minutes."
      select      = "MAX(AgeOfOldestUnreplicatedRecord)"
      threshold   = 60000
      period      = 300
      periods     = 3
    }
    throttled-puts = {
      description = "The stream throttles DynamoDB for ten minutes. It needs more shards."
      select      = "SUM(ThrottledPutRecordCount)"
      threshold   = 0
      period      = 300
      periods     = 2
    }
  }

  alarms = {
    iterator-age = {
      description = "The consumer is more than an hour behind."
      namespace   = "AWS/Lambda"
      metric      = "IteratorAge"
      dimensions  = { FunctionName = aws_lambda_function.consumer.function_name }
      statistic   = "Maximum"
      threshold   = 3600000
      period      = 300
      periods     = 1
    }
    # Has data while somebody calls GetRecords, which Lambda does all the time. No data means that nobody reads.
    stream-age = {
      description = "Whoever reads the stream is more than an hour behind, or nobody reads it."
      namespace   = "AWS/Kinesis"
      metric      = "GetRecords.IteratorAgeMilliseconds"
      dimensions  = { StreamName = aws_kinesis_stream.events.name }
      statistic   = "Maximum"
      threshold   = 3600000
      period      = 300
      periods     = 1
    }
    api-fails = {
      description = "The API answers with 5xx. Its function's log says why; if the function was not called, the access log."
      namespace   = "AWS/ApiGateway"
      metric      = "5xx"
      dimensions  = { ApiId = aws_apigatewayv2_api.orders.id }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 1
    }
    api-errors = {
      description = "Invocations of the API's function fail: it cannot start, is killed, or runs out of time."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = aws_lambda_function.api.function_name }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 1
    }
    api-throttles = {
      description = "Lambda refuses invocations of the API's function. The account, or the function, has no concurrency left."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.api.function_name }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 1
    }
    consumer-errors = {
      description = "Invocations of the consumer fail: it cannot start, is killed, or runs out of time. What it reports itself is no error."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = aws_lambda_function.consumer.function_name }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 1
    }
    consumer-throttles = {
      description = "Lambda refuses invocations of the consumer for ten minutes. The account, or the function, has no concurrency left."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.consumer.function_name }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 2
    }
    # One redrive that fails is repeated five minutes later.
    redrive-errors = {
      description = "The redrive of dead letters fails."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = aws_lambda_function.redrive.function_name }
      statistic   = "Sum"
      threshold   = 0
      period      = 300
      periods     = 3
    }
    # Tells at once, and ends a minute later, whether the letter waits or not.
    dead-letters = {
      description = "An event could not be handled. See \"outbox dead list\"; cure the cause, and redrive."
      namespace   = "Orders"
      metric      = "DeadLetters"
      dimensions  = { Stack = var.name }
      statistic   = "Sum"
      threshold   = 0
      period      = 60
      periods     = 1
    }
    # Lasts while a letter waits. The redrive counts every five minutes; no data means that nobody does.
    waiting-dead-letters = {
      description = "Dead letters wait, or the redrive does not count them. See \"outbox dead list\"; cure the cause, and redrive."
      namespace   = "Orders"
      metric      = "WaitingDeadLetters"
      dimensions  = { Stack = var.name }
      statistic   = "Maximum"
      threshold   = 0
      period      = 900
      periods     = 1
    }
    # No metric of AWS tells of a destination that is disabled: then there is nothing to replicate. The redrive looks every five minutes.
    disabled-destination = {
      description = "New events do not reach the stream, or the redrive does not look. See \"outbox doctor\"; what is written meanwhile needs a replay."
      namespace   = "Orders"
      metric      = "DisabledDestination"
      dimensions  = { Stack = var.name }
      statistic   = "Maximum"
      threshold   = 0
      period      = 900
      periods     = 1
    }
    undelivered = {
      description = "Events had reached no handler, and were found in the table. The log of the reconcile has their ids; find out what has lost them."
      namespace   = "Orders"
      metric      = "UndeliveredEvents"
      dimensions  = { Stack = var.name }
      statistic   = "Maximum"
      threshold   = 0
      period      = 3600
      periods     = 1
    }
    # The parts of the last 24 hours. The time of each is the end of its hour, so that no window of a day has fewer than 24 by chance.
    incomplete-cycle = {
      description = "Less than the whole events table was compared with the inbox in the last 24 hours. The log of the reconcile says why."
      namespace   = "Orders"
      metric      = "ReconciledSegments"
      dimensions  = { Stack = var.name }
      statistic   = "Sum"
      threshold   = 24
      period      = 86400
      periods     = 1
    }
    failures = {
      description = "Lambda gave records up. The messages name them; replay them from the events table."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.failures.name }
      statistic   = "Maximum"
      threshold   = 0
      period      = 60
      periods     = 1
    }
    # What is in the failure queue does not count here.
    dropped = {
      description = "Lambda gave records up, and could not tell the failure queue. Replay the events of that time from the events table."
      namespace   = "AWS/Lambda"
      metric      = "DroppedEventCount"
      dimensions  = { EventSourceMappingUUID = aws_lambda_event_source_mapping.consumer.uuid }
      statistic   = "Sum"
      threshold   = 0
      period      = 60
      periods     = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "queries" {
  for_each            = local.queries
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  alarm_actions       = local.alarm_actions
  treat_missing_data  = "notBreaching"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods

  metric_query {
    id          = "q"
    expression  = "SELECT ${each.value.select} FROM \"AWS/DynamoDB\" WHERE TableName = '${aws_dynamodb_table.events.name}'"
    period      = each.value.period
    return_data = true
  }
}

resource "aws_cloudwatch_metric_alarm" "metrics" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  alarm_actions       = local.alarm_actions
  treat_missing_data  = contains(["stream-age", "waiting-dead-letters", "disabled-destination", "incomplete-cycle"], each.key) ? "breaching" : "notBreaching"
  comparison_operator = each.key == "incomplete-cycle" ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
}
