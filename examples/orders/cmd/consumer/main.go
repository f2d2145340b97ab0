// Command consumer is the Lambda function behind the stream: it confirms orders. Its event source mapping must have
// FunctionResponseTypes ReportBatchItemFailures.
package main

import "github.com/seed-1b628d3f/outbox/examples/orders/service"

func main() { service.RunFunction(service.RoleConsumer, service.Confirmations) }
