// Command redrive is the Lambda function on a schedule: it hands the dead letters that somebody asked for to the handlers again, and tells
// two metrics: how many letters wait, and whether new events reach the stream.
package main

import "github.com/seed-1b628d3f/outbox/examples/orders/service"

func main() { service.RunFunction(service.RoleRedrive, service.Redrives) }
