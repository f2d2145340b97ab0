package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// entry is a line that a worker prints: a confirmation, or what happened to a lease.
type entry struct {
	At       time.Time
	Did      string
	Shard    string
	Fence    int64
	Sequence string
	EventID  string
	OrderID  string
}

// process is a program that runs by itself.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr string // a file
	said   chan string
	gone   chan struct{} // closed when it is reaped
	failed error         // how it ended; read it after gone

	mu      sync.Mutex
	entries []entry
	garbled []string
}

// buildExample builds a program of the examples, from their own module.
func buildExample(t *testing.T, name string) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), name)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./"+name)
	build.Dir = "../examples"
	out, err := build.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	return binary
}

// localEnvironment leads the SDK to an endpoint, and has nothing that could lead it elsewhere.
func localEnvironment(endpoint string) []string {
	return []string{"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true"}
}

// launch starts a program. It is killed, if it still runs, when the test ends.
func launch(t *testing.T, name string, env []string, binary string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	p := &process{name: name, cmd: exec.Command(binary, args...), stderr: log.Name(), said: make(chan string, 100), gone: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = env, log
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.line(lines.Text())
		}
		p.failed = p.cmd.Wait()
		_ = log.Close()
		close(p.gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.gone
	})
	return p
}

// line takes in a line that the process prints: an entry of its journal, or what it says.
func (p *process) line(text string) {
	if text == "" || text[0] != '{' {
		select {
		case p.said <- text:
		default:
		}
		return
	}
	var e entry
	err := json.Unmarshal([]byte(text), &e)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.garbled = append(p.garbled, text)
		return
	}
	p.entries = append(p.entries, e)
}

// journal returns the entries until now.
func (p *process) journal() []entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.entries)
}

// url waits for the address that the process prints.
func (p *process) url(t *testing.T) string {
	t.Helper()
	for giveUp := time.After(time.Minute); ; {
		select {
		case text := <-p.said:
			if u := regexp.MustCompile(`http://[0-9.:]+`).FindString(text); u != "" {
				return u
			}
		case <-p.gone:
			require.FailNow(t, p.name+" has ended", "%v\n%s", p.failed, p.log())
		case <-giveUp:
			require.FailNow(t, p.name+" does not start", p.log())
		}
	}
}

// log is the end of what it wrote to stderr.
func (p *process) log() string {
	text, err := os.ReadFile(p.stderr)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// signal sends a signal to the process.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoErrorf(t, p.cmd.Process.Signal(s), "%s: %v\n%s", p.name, s, p.log())
}

// requireGoodEnd waits for a process that was asked to end. A process that was asked before its main function began had nothing to end.
func (p *process) requireGoodEnd(t *testing.T) {
	t.Helper()
	select {
	case <-p.gone:
		if exit := (*exec.ExitError)(nil); errors.As(p.failed, &exit) && exit.String() == "signal: terminated" && p.log() == "" {
			return
		}
		require.NoErrorf(t, p.failed, "%s did not end well:\n%s", p.name, p.log())
	case <-time.After(time.Minute):
		require.FailNow(t, fmt.Sprintf("%s was asked to end, and has not after a minute", p.name), p.log())
	}
}

// placeOrder places an order with a service and returns its id.
func placeOrder(t *testing.T, url, description string) (id string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"description": description})
	require.NoError(t, err)
	res, err := http.Post(url+"/", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer res.Body.Close()
	var answer struct{ OrderID, Error string }
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	require.Equalf(t, http.StatusCreated, res.StatusCode, "%s", answer.Error)
	return answer.OrderID
}

// getJSON reads a JSON document of a service.
func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, url)
	require.NoError(t, json.NewDecoder(res.Body).Decode(into))
}
