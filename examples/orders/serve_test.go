package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The page of a site whose name leads here cannot ask for anything: what its browser sends names the site.
func TestOnlyItsOwnHostIsServed(t *testing.T) {
	target := startPage(t)
	ask := func(host, method, path string) (status int, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, target+path, nil)
		require.NoError(t, err)
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, text.String()
	}
	_, port, found := strings.Cut(strings.TrimPrefix(target, "http://"), ":")
	require.True(t, found)
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "LocalHost", "127.0.0.1", "[::1]:" + port, "[::1]", "192.0.2.1"} {
		status, body := ask(host, http.MethodGet, "/mails")
		require.Equal(t, http.StatusOK, status, "%s: %s", host, body)
	}
	for _, host := range []string{"example.com", "example.com:" + port, "127.0.0.1.example.com", "localhost.example.com:" + port, "localhost@example.com", "x"} {
		for _, request := range [][]string{{http.MethodGet, "/"}, {http.MethodGet, "/mails"}, {http.MethodGet, "/watch"}, {http.MethodPost, "/"}, {http.MethodPost, "/poison"}} {
			status, body := ask(host, request[0], request[1])
			require.Equal(t, http.StatusMisdirectedRequest, status, "%s %v", host, request)
			require.JSONEq(t, `{"error":"the Host is not this service: ask for localhost, or for an IP address"}`, body)
		}
	}
}

// A service on AWS that others may reach has names that it does not know. One that only this machine may reach has not.
func TestAServiceThatOthersReachHasAnyName(t *testing.T) {
	for _, c := range []struct {
		set    settings
		at, to string
		status int
	}{
		{settings{aws: true, addr: "127.0.0.1:80"}, "127.0.0.1", "orders.example.com", http.StatusMisdirectedRequest},
		{settings{aws: true, addr: "[::1]:80"}, "::1", "orders.example.com", http.StatusMisdirectedRequest},
		{settings{aws: true, addr: ":80"}, "0.0.0.0", "orders.example.com", http.StatusTeapot},
		{settings{addr: ":80"}, "0.0.0.0", "orders.example.com", http.StatusMisdirectedRequest},
		{settings{addr: ":80"}, "0.0.0.0", "", http.StatusMisdirectedRequest},
		{settings{addr: "orders.example.com:80"}, "192.0.2.1", "orders.example.com:8080", http.StatusTeapot},
	} {
		handler := guarded(c.set, &net.TCPAddr{IP: net.ParseIP(c.at), Port: 80},
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = c.to
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, "%+v", c)
	}
}

// What the page does not serve is refused in JSON, with the status that says why.
func TestThePageRefusesInJSON(t *testing.T) {
	target := startPage(t)
	for _, c := range []struct {
		method, path, site string
		status             int
	}{
		{http.MethodGet, "/poison", "", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/redrive", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/watch", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/mails", "", http.StatusMethodNotAllowed},
		{http.MethodPut, "/orders/1/changes", "", http.StatusMethodNotAllowed},
		{http.MethodGet, "/nothing", "", http.StatusNotFound},
		{http.MethodGet, "//mails", "", http.StatusNotFound},
		{http.MethodGet, "/x/../mails", "", http.StatusNotFound},
		{http.MethodPost, "/redrive", "cross-site", http.StatusForbidden},
		{http.MethodOptions, "/redrive", "", http.StatusMethodNotAllowed},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, target+c.path, nil)
		require.NoError(t, err)
		r.Header.Set("Sec-Fetch-Site", c.site)
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		answer, err := client.Do(r)
		require.NoError(t, err)
		var body struct{ Error string }
		require.NoError(t, json.NewDecoder(answer.Body).Decode(&body), "%s %s", c.method, c.path)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, c.status, answer.StatusCode, "%s %s: %s", c.method, c.path, body.Error)
		require.NotEmpty(t, body.Error)
		require.Equal(t, c.status == http.StatusMethodNotAllowed, answer.Header.Get("Allow") != "")
	}
}

// The answer of /mails, and what a process remembers of mails, is bounded.
func TestTheMailsThatAreShownAreBounded(t *testing.T) {
	m := &mailbox{most: 5}
	for n := range 20 {
		require.True(t, m.keep(Mail{EventID: fmt.Sprint(n)}))
	}
	require.Equal(t, []Mail{{EventID: "18"}, {EventID: "19"}}, m.latest(2))
	require.Len(t, m.latest(100), 5)
	require.Len(t, m.sent, 5)
	require.False(t, m.keep(Mail{EventID: "15"}), "it is known")
	require.Equal(t, []Mail{}, (&mailbox{}).latest(2))
}

// The first signal lets a mail that is on its way arrive. The second one ends the process at once.
func TestASecondSignalEndsTheProcess(t *testing.T) {
	process := exec.CommandContext(t.Context(), os.Args[0], "-addr", "127.0.0.1:0", "-mail-takes", "1h")
	process.Env = append(os.Environ(), mainVariable+"=1")
	var stdout, stderr output
	process.Stdout, process.Stderr = &stdout, &stderr
	require.NoError(t, process.Start())
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	await := func(o *output, text string) string {
		pattern := regexp.MustCompile(text)
		require.Eventually(t, func() bool { return pattern.MatchString(o.String()) }, time.Minute, 10*time.Millisecond, "%s\n%s", text, &stderr)
		return pattern.FindString(o.String())
	}
	place(t, await(&stdout, `http://[0-9.:]+`), `{"description":"tea"}`)
	require.NoError(t, process.Process.Signal(os.Interrupt))
	await(&stderr, "draining")
	for signal := time.NewTicker(10 * time.Millisecond); ; { // the first one may have been sent too early to be the second
		select {
		case <-signal.C:
			_ = process.Process.Signal(os.Interrupt)
			continue
		case <-ended:
			signal.Stop()
		}
		break
	}
	status, ok := process.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled(), "it ended by itself: %v\n%s", process.ProcessState, &stderr)
	require.Equal(t, syscall.SIGINT, status.Signal())
}
