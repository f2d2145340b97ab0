package adversary

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

// link stands between one process and the services.
type link struct {
	*faults              // of the member
	killed  atomic.Bool  // the process is gone: nothing passes any more
	calls   atomic.Int64 // requests of the process
}

var errKilled = errors.New("the process was killed")

// service is a service as a link knows it: how it refuses.
type service struct {
	sick      []fault
	throttled error
}

var (
	kinesisList = service{sick: []fault{cannotList}, throttled: &kinesistypes.LimitExceededException{Message: aws.String("Rate exceeded")}}
	kinesisRead = service{sick: []fault{cannotRead}, throttled: &kinesistypes.ProvisionedThroughputExceededException{Message: aws.String("Rate exceeded for shard")}}
	streamsList = service{sick: []fault{cannotList}, throttled: &streamtypes.LimitExceededException{Message: aws.String("Rate exceeded")}}
	streamsRead = service{sick: []fault{cannotRead}, throttled: &streamtypes.LimitExceededException{Message: aws.String("Rate exceeded")}}
	tables      = service{sick: []fault{cannotLease}, throttled: &dynamotypes.ProvisionedThroughputExceededException{Message: aws.String("The level of configured provisioned throughput for the table was exceeded.")}}
)

// request is what happens to a request before it arrives.
func (l *link) request(ctx context.Context, to service) error {
	l.calls.Add(1)
	switch {
	case l.killed.Load():
		return errKilled
	case ctx.Err() != nil:
		return ctx.Err()
	case l.strikes(frozen), l.strikes(hanging):
		<-ctx.Done()
		return ctx.Err()
	case l.strikes(throttled):
		return to.throttled
	case to.sick[0] != cannotLease && l.strikes(nilError): // the library does not withstand it from a client of its tables
		return (*smithy.GenericAPIError)(nil)
	case l.strikes(serverError):
		return &smithy.GenericAPIError{Code: "InternalServerError", Message: "we could not process your request", Fault: smithy.FaultServer}
	}
	for _, sick := range to.sick {
		if !l.strikes(sick) {
			continue
		}
		if sick == cannotLease { // no route: the request ends by its own deadline
			<-ctx.Done()
			return ctx.Err()
		}
		return &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "User is not authorized to perform this action"}
	}
	if l.strikes(slow) {
		return l.wait(ctx, l.between(100*time.Millisecond, 5*time.Second))
	}
	return nil
}

// answer is what happens to an answer on its way.
func (l *link) answer(ctx context.Context, bytes int) error {
	if l.strikes(slowBytes) {
		if err := l.wait(ctx, time.Duration(bytes)*time.Second/20_000); err != nil {
			return err
		}
	}
	if l.killed.Load() {
		return errKilled
	}
	return ctx.Err()
}

func (l *link) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
