package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// useLocalAWS makes the SDK's configuration lead to an AWS at a port.
func useLocalAWS(t *testing.T) {
	local := outboxtest.New()
	server := httptest.NewServer(local)
	t.Cleanup(func() {
		server.Close()
		local.Close()
	})
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local",
		"AWS_SECRET_ACCESS_KEY": "local", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
}

// begin runs the service with these arguments. stop ends it, which must go well.
func begin(t *testing.T, args ...string) (lines *bufio.Scanner, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, out)
		out.CloseWithError(err)
		ended <- err
	}()
	return bufio.NewScanner(in), func() {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, in) }()
		require.NoError(t, <-ended)
	}
}

func urlIn(t *testing.T, lines *bufio.Scanner) string {
	url, _ := said(t, lines)
	return url
}

// said is what the service says when it starts.
func said(t *testing.T, lines *bufio.Scanner) (url, text string) {
	for lines.Text() != "Ctrl-C stops it." {
		require.True(t, lines.Scan(), "%v", lines.Err())
		text += lines.Text() + "\n"
	}
	url = regexp.MustCompile(`http://[0-9.:]+`).FindString(text)
	require.NotEmpty(t, url)
	return url, text
}

// What the service says that one can do, one can do.
func TestTheStartSaysWhatThereIs(t *testing.T) {
	lines, stop := begin(t, "-addr", "127.0.0.1:0")
	url, text := said(t, lines)
	id := place(t, url, `{"description":"x"}`)
	_, _ = watched(t, url, "", func(s []string) bool { return slices.Contains(s, "finished") })
	want := []int{http.StatusAccepted, http.StatusAccepted, http.StatusCreated, http.StatusOK}
	commands := regexp.MustCompile(`curl -X POST (\S+)`).FindAllStringSubmatch(text, -1)
	require.Len(t, commands, len(want))
	for i, status := range want {
		post(t, strings.ReplaceAll(commands[i][1], "ORDERID", id), status)
	}
	stop()

	useLocalAWS(t)
	lines, stop = begin(t, "-aws", "-role", "api", "-addr", "127.0.0.1:0")
	defer stop()
	url, text = said(t, lines)
	require.Contains(t, text, "It serves POST /, GET /orders/{id} and POST /orders/{id}/changes.")
	get(t, url, http.StatusMethodNotAllowed, &map[string]string{})
	require.NotContains(t, text, "/mails")
	require.Contains(t, text, "outbox status --stream events --leases order-leases --group confirmations\n")
}

// The API places orders, and a worker beside it prints what it confirms, and whose shard it was.
func TestRoles(t *testing.T) {
	useLocalAWS(t)
	lines, stopAPI := begin(t, "-aws", "-role", "api", "-addr", "127.0.0.1:0")
	defer stopAPI()
	id := place(t, urlIn(t, lines), `{"description":"x"}`)

	lines, stopWorker := begin(t, "-aws", "-role", "worker", "-mail-takes", "1ms")
	defer stopWorker()
	var e entry
	for _, did := range []string{"gained", "confirmed"} {
		require.True(t, lines.Scan(), "%v", lines.Err())
		e = entry{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		require.Equal(t, did, e.Did)
		require.Equal(t, "shardId-000000000000", e.Shard)
		require.Positive(t, e.Fence)
	}
	require.Equal(t, id, e.OrderID)
	require.Equal(t, id+"#1", e.EventID)
	require.NotEmpty(t, e.Sequence)
}

// With -aws and no role, one process does both.
func TestAllRolesInOneProcess(t *testing.T) {
	useLocalAWS(t)
	lines, stop := begin(t, "-aws", "-mails", "-addr", "127.0.0.1:0")
	defer stop()
	url := urlIn(t, lines)
	id := place(t, url, `{"description":"x"}`)
	var mails []Mail
	require.Eventually(t, func() bool {
		res, err := http.Get(url + "/mails")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&mails) == nil && len(mails) == 1 && mails[0].OrderID == id
	}, time.Minute, 10*time.Millisecond)
}
