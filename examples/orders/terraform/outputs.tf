output "url" {
  description = "Where orders are placed."
  value       = aws_apigatewayv2_api.orders.api_endpoint
}

output "events_table" {
  value = aws_dynamodb_table.events.name
}

output "events_stream" {
  value = aws_kinesis_stream.events.name
}

output "inbox_table" {
  value = aws_dynamodb_table.inbox.name
}

output "dead_letters_table" {
  value = aws_dynamodb_table.dead_letters.name
}

output "consumer_function" {
  value = aws_lambda_function.consumer.function_name
}

output "failure_queue" {
  value = aws_sqs_queue.failures.url
}

output "leases_table" {
  value = var.with_worker ? aws_dynamodb_table.leases[0].name : null
}

output "worker_policy" {
  value = var.with_worker ? aws_iam_policy.worker[0].arn : null
}
