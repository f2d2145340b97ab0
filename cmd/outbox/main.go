// Command outbox sets up, looks into and repairs a transactional outbox on DynamoDB: it creates the tables and the stream, shows
// events as they pass, replays old ones, finds those that a consumer lacks, says how far consumers are, and checks the configuration.
//
// Credentials, region and endpoints are those of the AWS SDK's own configuration: the environment (AWS_PROFILE, AWS_REGION,
// AWS_ENDPOINT_URL) and the files in ~/.aws. See docs/cli.md for a session, the exit codes and the permissions.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A write to a pipe that nobody reads becomes an error, so that a command which changes something ends in good order.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	code := newApp(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
