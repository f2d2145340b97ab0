locals {
  identities = [for i in [var.mail_identity == "" ? var.mail_from : var.mail_identity, var.sandbox_recipient] :
  "arn:${data.aws_partition.current.partition}:ses:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}:identity/${i}" if i != ""]

  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })

  # A record that Lambda gives up is in the failure queue; one that the stream's retention ends is gone without a word. So Lambda gives up
  # first, and after 7 days at the latest, which is its limit.
  given_up_after_seconds = min((var.retention_days - 1) * 86400, 604800)

  # What confirming an order needs. What the stream has not brought is read from the events table.
  may_confirm = [
    { Effect = "Allow", Action = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"], Resource = [aws_dynamodb_table.inbox.arn] },
    { Effect = "Allow", Action = ["dynamodb:BatchGetItem"], Resource = [aws_dynamodb_table.events.arn] },
    { Effect = "Allow", Action = ["ses:SendEmail"], Resource = local.identities },
  ]
  may_keep_dead_letters = [
    {
      Effect   = "Allow"
      Action   = ["dynamodb:Query", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
      Resource = [aws_dynamodb_table.dead_letters.arn]
    },
  ]

  confirming = {
    EVENTS_TABLE       = aws_dynamodb_table.events.name
    INBOX_TABLE        = aws_dynamodb_table.inbox.name
    DEAD_LETTERS_TABLE = aws_dynamodb_table.dead_letters.name
    MAIL_FROM          = var.mail_from
    MAIL_RATE          = var.mail_rate
    STACK              = var.name
  }
}

# The API.

resource "aws_lambda_function" "api" {
  function_name    = "${var.name}-api"
  role             = aws_iam_role.api.arn
  filename         = "${var.dist}/api.zip"
  source_code_hash = filebase64sha256("${var.dist}/api.zip")
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = 10

  environment {
    variables = {
      ORDERS_TABLE = aws_dynamodb_table.orders.name
      EVENTS_TABLE = aws_dynamodb_table.events.name
    }
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.api.name
  }

  # What is written before the destination is ACTIVE does not reach the stream.
  depends_on = [aws_dynamodb_kinesis_streaming_destination.events, aws_iam_role_policy.api]
}

resource "aws_cloudwatch_log_group" "api" {
  name              = "/aws/lambda/${var.name}-api"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "api" {
  name               = "${var.name}-api"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "api" {
  name = "api"
  role = aws_iam_role.api.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["dynamodb:PutItem"], Resource = [aws_dynamodb_table.orders.arn, aws_dynamodb_table.events.arn] },
      { Effect = "Allow", Action = ["dynamodb:GetItem", "dynamodb:UpdateItem"], Resource = [aws_dynamodb_table.orders.arn] },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.api.arn}:*"] },
    ]
  })
}

# The consumer.

resource "aws_lambda_function" "consumer" {
  function_name    = "${var.name}-consumer"
  role             = aws_iam_role.consumer.arn
  filename         = "${var.dist}/consumer.zip"
  source_code_hash = filebase64sha256("${var.dist}/consumer.zip")
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = 60

  environment {
    variables = local.confirming
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.consumer.name
  }
}

resource "aws_cloudwatch_log_group" "consumer" {
  name              = "/aws/lambda/${var.name}-consumer"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "consumer" {
  name               = "${var.name}-consumer"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "consumer" {
  name = "consumer"
  role = aws_iam_role.consumer.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.may_confirm, local.may_keep_dead_letters, [
      { # what Lambda does with the function's role
        Effect = "Allow"
        Action = ["kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator",
        "kinesis:ListShards"]
        Resource = [aws_kinesis_stream.events.arn]
      },
      { Effect = "Allow", Action = ["kinesis:ListStreams"], Resource = ["*"] }, # the action has no resource in IAM
      { Effect = "Allow", Action = ["sqs:SendMessage"], Resource = [aws_sqs_queue.failures.arn] },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.consumer.arn}:*"] },
    ])
  })
}

# The consumer answers which record is unfinished, counts attempts, and makes dead letters of what it cannot handle. So Lambda limits
# only the age, and the failure queue hears of what not even a dead letter could be made of. Why there is no filter: template.yaml.
resource "aws_lambda_event_source_mapping" "consumer" {
  function_name                  = aws_lambda_function.consumer.function_name
  event_source_arn               = aws_kinesis_stream.events.arn
  starting_position              = "TRIM_HORIZON"
  batch_size                     = 100
  parallelization_factor         = var.parallelization_factor
  function_response_types        = ["ReportBatchItemFailures"]
  bisect_batch_on_function_error = true
  maximum_retry_attempts         = -1
  maximum_record_age_in_seconds  = local.given_up_after_seconds

  metrics_config {
    metrics = ["EventCount"]
  }
  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.failures.arn
    }
  }
  dynamic "filter_criteria" {
    for_each = var.only_inserts ? [1] : []
    content {
      filter {
        pattern = jsonencode({ data = { eventName = ["INSERT"] } })
      }
    }
  }

  depends_on = [aws_iam_role_policy.consumer]
}

# The redrive: handles the dead letters that somebody asks for with "outbox dead redrive".

resource "aws_lambda_function" "redrive" {
  function_name    = "${var.name}-redrive"
  role             = aws_iam_role.redrive.arn
  filename         = "${var.dist}/redrive.zip"
  source_code_hash = filebase64sha256("${var.dist}/redrive.zip")
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = 240

  environment {
    variables = merge(local.confirming, { EVENTS_STREAM = aws_kinesis_stream.events.name })
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.redrive.name
  }
}

resource "aws_cloudwatch_log_group" "redrive" {
  name              = "/aws/lambda/${var.name}-redrive"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "redrive" {
  name               = "${var.name}-redrive"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "redrive" {
  name = "redrive"
  role = aws_iam_role.redrive.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.may_confirm, [
      {
        Effect   = "Allow"
        Action   = ["dynamodb:Query", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
        Resource = [aws_dynamodb_table.dead_letters.arn]
      },
      { Effect = "Allow", Action = ["dynamodb:DescribeKinesisStreamingDestination"], Resource = [aws_dynamodb_table.events.arn] },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.redrive.arn}:*"] },
    ])
  })
}

resource "aws_cloudwatch_event_rule" "redrive" {
  name                = "${var.name}-redrive"
  schedule_expression = "rate(5 minutes)"
}

resource "aws_cloudwatch_event_target" "redrive" {
  rule = aws_cloudwatch_event_rule.redrive.name
  arn  = aws_lambda_function.redrive.arn
}

resource "aws_lambda_permission" "redrive" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.redrive.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.redrive.arn
}

# The schedule repeats it soon enough.
resource "aws_lambda_function_event_invoke_config" "redrive" {
  function_name          = aws_lambda_function.redrive.function_name
  maximum_retry_attempts = 0
}

# The reconcile: finds the events that no delivery has brought. It reads the table in 24 parts, a part in the middle of each hour; a run that
# began near the end of its hour could read the next part in its place. So the latest repeat, by EventBridge or by Lambda,
# ends within the hour.

resource "aws_lambda_function" "reconcile" {
  function_name    = "${var.name}-reconcile"
  role             = aws_iam_role.reconcile.arn
  filename         = "${var.dist}/reconcile.zip"
  source_code_hash = filebase64sha256("${var.dist}/reconcile.zip")
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = 600

  environment {
    variables = local.confirming
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.reconcile.name
  }
}

resource "aws_cloudwatch_log_group" "reconcile" {
  name              = "/aws/lambda/${var.name}-reconcile"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "reconcile" {
  name               = "${var.name}-reconcile"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "reconcile" {
  name = "reconcile"
  role = aws_iam_role.reconcile.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.may_confirm, local.may_keep_dead_letters, [
      { Effect = "Allow", Action = ["dynamodb:BatchGetItem"], Resource = [aws_dynamodb_table.inbox.arn] },
      { Effect = "Allow", Action = ["dynamodb:Scan"], Resource = [aws_dynamodb_table.events.arn] },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.reconcile.arn}:*"] },
    ])
  })
}

resource "aws_cloudwatch_event_rule" "reconcile" {
  name                = "${var.name}-reconcile"
  schedule_expression = "cron(30 * * * ? *)"
}

resource "aws_cloudwatch_event_target" "reconcile" {
  rule = aws_cloudwatch_event_rule.reconcile.name
  arn  = aws_lambda_function.reconcile.arn

  retry_policy {
    maximum_event_age_in_seconds = 180
    maximum_retry_attempts       = 185
  }
}

resource "aws_lambda_permission" "reconcile" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.reconcile.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.reconcile.arn
}

resource "aws_lambda_function_event_invoke_config" "reconcile" {
  function_name                = aws_lambda_function.reconcile.function_name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 900
}

# The worker, which runs elsewhere.
resource "aws_iam_policy" "worker" {
  count = var.with_worker ? 1 : 0
  name  = "${var.name}-worker"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.may_confirm, local.may_keep_dead_letters, [
      { Effect = "Allow", Action = ["dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:DeleteItem"], Resource = [aws_dynamodb_table.leases[0].arn] },
      { Effect = "Allow", Action = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"], Resource = [aws_kinesis_stream.events.arn] },
    ])
  })
}
