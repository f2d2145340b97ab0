package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runtimeAPI is the side of Lambda that a function's process talks to.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
type runtimeAPI struct {
	next    chan invocation
	answers chan answer
	mu      sync.Mutex
	n       int
}

// invocation is what the Runtime API hands to a function.
type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
}

func (a *runtimeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch id, kind := r.PathValue("id"), r.PathValue("kind"); {
	case r.Method == http.MethodGet && id == "next":
		select {
		case i := <-a.next:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", i.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(i.deadline.UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
			_, _ = w.Write(i.payload)
		case <-r.Context().Done():
		}
	case r.Method == http.MethodPost && kind != "":
		w.WriteHeader(http.StatusAccepted)
		a.answers <- answer{kind, id, string(body)}
	default:
		http.NotFound(w, r)
	}
}

// builds are the functions' binaries.
type builds struct{ directory string }

// functionsVariable names a directory with the functions as they will be deployed. The Makefile sets it.
const functionsVariable = "ORDERS_FUNCTIONS"

// built is where the functions are that the tests of this run have built. TestMain removes it.
var built struct {
	mu        sync.Mutex
	directory string
	done      map[string]bool
}

// mainVariable makes the tests' binary the program.
const mainVariable = "ORDERS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	status := m.Run()
	if built.directory != "" {
		if err := os.RemoveAll(built.directory); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

// buildFunctions builds the functions, each once, unless there are some to test.
func buildFunctions(t *testing.T, programs ...string) builds {
	if directory := os.Getenv(functionsVariable); directory != "" {
		return builds{directory}
	}
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.directory == "" {
		directory, err := os.MkdirTemp("", "orders-functions-")
		require.NoError(t, err)
		built.directory, built.done = directory, map[string]bool{}
	}
	for _, program := range programs {
		if built.done[program] {
			continue
		}
		build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w",
			"-o", filepath.Join(built.directory, program, "bootstrap"), "./cmd/"+program)
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
		built.done[program] = true
	}
	return builds{built.directory}
}

// function is a process of a function.
type function struct {
	api            *runtimeAPI
	stdout, stderr *output
	ended          chan error
}

// output is what a process has written. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// start runs a function with nothing but this environment and what Lambda adds. The test's end kills it, as Lambda does.
func (b builds) start(t *testing.T, program string, environment map[string]string) *function {
	f := &function{api: &runtimeAPI{next: make(chan invocation), answers: make(chan answer, 10)}, stdout: &output{}, stderr: &output{}, ended: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("/2018-06-01/runtime/invocation/{id}", f.api)
	mux.Handle("/2018-06-01/runtime/invocation/{id}/{kind}", f.api)
	mux.Handle("/2018-06-01/runtime/{id}/{kind}", f.api)
	server := httptest.NewServer(mux)
	process := exec.CommandContext(t.Context(), filepath.Join(b.directory, program, "bootstrap"))
	process.Stdout, process.Stderr = f.stdout, f.stderr
	process.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + server.Listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=" + program}
	for name, value := range environment {
		process.Env = append(process.Env, name+"="+value)
	}
	require.NoError(t, process.Start())
	go func() {
		f.ended <- process.Wait()
		close(f.ended)
	}()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		for range f.ended {
		}
		server.CloseClientConnections()
		server.Close()
		if t.Failed() {
			t.Logf("%s: %s%s", program, f.stdout, f.stderr)
		}
	})
	return f
}

// invoke hands a payload to the function, and returns what it answers. The timeout is the function's.
func (f *function) invoke(t *testing.T, payload []byte, timeout time.Duration) answer {
	f.api.mu.Lock()
	f.api.n++
	i := invocation{strconv.Itoa(f.api.n), payload, time.Now().Add(timeout)}
	f.api.mu.Unlock()
	select {
	case f.api.next <- i:
	case err := <-f.ended:
		require.FailNow(t, "the function has ended", "%v\n%s", err, f.stderr)
	case <-t.Context().Done():
		require.FailNow(t, "the function does not ask for an invocation")
	}
	a := f.answer(t)
	require.Equal(t, i.id, a.id)
	return a
}

// answer waits for the function's next report.
func (f *function) answer(t *testing.T) answer {
	select {
	case a := <-f.api.answers:
		return a
	case <-time.After(time.Minute):
		require.FailNow(t, "the function does not answer", "%s", f.stderr)
		return answer{}
	}
}
