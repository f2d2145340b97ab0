package outboxtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// ErrKilled is the cause of the context of a dead [Process], and what its
// requests with another context fail with.
var ErrKilled = errors.New("outboxtest: this process is dead")

// Process is the clients of one process, which may die: then no request of it
// gets through any more, for ever, as if it had been killed in that moment. What
// it has done in DynamoDB stays, and everything else goes on. It is safe for
// concurrent use.
//
// A goroutine cannot be killed. So give the code under test the clients and the
// context of the process: when it dies, the context ends, and each request fails
// at once, with [ErrKilled] or because its context has ended. Then begin anew with
// another process, as a restart would.
type Process struct {
	DynamoDB *dynamodb.Client
	Kinesis  *kinesis.Client
	Streams  *dynamodbstreams.Client

	context context.Context
	end     context.CancelCauseFunc
	dead    atomic.Bool // the context may have ended before the process dies

	mu       sync.Mutex
	requests int
	death    Death
}

// Death says where a process dies. The zero value is a process that lives until
// it is killed.
type Death struct {
	// Request is the number of its last request, counting from 1 over all
	// services, the SDK's repeats included. 0: none is the last.
	Request int
	// Answered says that the process still gets the answer to this request, and
	// dies at the next one, which is not carried out: [Process.Killed] is false
	// until then. Otherwise the request is carried out, and the process dies
	// before it hears of it.
	Answered bool
}

// Process returns the clients of a new process. To try every place where a
// process can die, let it die at its first request, then at its second, and so
// on, until [Process.Killed] says that it came to its end before. Process panics
// if death has a negative Request, or Answered without a Request.
func (s *Server) Process(ctx context.Context, death Death) *Process {
	if death.Request < 0 || death.Answered && death.Request == 0 {
		panic(fmt.Sprintf("outboxtest: Process: a Death is at request 1 or later, or has no fields: %+v", death))
	}
	p := &Process{death: death}
	p.context, p.end = context.WithCancelCause(ctx)
	config := s.Config()
	config.HTTPClient = &http.Client{Transport: mortal{p, inProcess{s}}}
	p.DynamoDB, p.Kinesis, p.Streams = dynamodb.NewFromConfig(config), kinesis.NewFromConfig(config), dynamodbstreams.NewFromConfig(config)
	return p
}

// Context ends when the process dies, with the cause [ErrKilled], or when the
// context ends that [Server.Process] was given. The process lives on after the
// latter: its requests with another context get through until it dies.
func (p *Process) Context() context.Context { return p.context }

// Kill makes the process die now. Requests under way may be carried out, and
// are not answered.
func (p *Process) Kill() {
	p.dead.Store(true)
	p.end(ErrKilled)
}

// Killed tells whether the process has died.
func (p *Process) Killed() bool { return p.dead.Load() }

// next counts a request, and tells whether it gets through, and is the last.
func (p *Process) next() (through, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Killed() {
		return false, false
	}
	p.requests++
	if p.death.Request > 0 && p.requests > p.death.Request {
		p.Kill()
		return false, false
	}
	return true, p.requests == p.death.Request && !p.death.Answered
}

// mortal is the network of a process.
type mortal struct {
	process *Process
	network http.RoundTripper
}

// RoundTrip carries a request out as long as the process lives.
func (m mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	through, last := m.process.next()
	if !through {
		return nil, killed{}
	}
	answer, err := m.network.RoundTrip(r)
	if last {
		m.process.Kill()
	}
	if m.process.Killed() {
		return nil, killed{}
	}
	return answer, err
}

// killed is the error of a dead process's request. The SDK does not repeat what
// was cancelled.
type killed struct{}

func (killed) Error() string       { return ErrKilled.Error() }
func (killed) Unwrap() error       { return ErrKilled }
func (killed) CanceledError() bool { return true }
