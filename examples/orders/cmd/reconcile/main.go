// Command reconcile is the Lambda function in the middle of each hour: it looks for events in a 24th of the events table that no delivery has
// brought, confirms their orders, and tells two metrics: how many there were, and that the part was read to its end.
package main

import "github.com/seed-1b628d3f/outbox/examples/orders/service"

func main() { service.RunFunction(service.RoleReconcile, service.Reconciles) }
