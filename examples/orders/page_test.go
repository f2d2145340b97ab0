package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// startPage starts the service with its page. It must end well when the test does.
func startPage(t *testing.T) (url string) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	buffer := make([]byte, 4096)
	n, err := in.Read(buffer)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	return regexp.MustCompile(`http://[0-9.:]+`).FindString(string(buffer[:n]))
}

func count(stages []string, stage string) (n int) {
	for _, have := range stages {
		if have == stage {
			n++
		}
	}
	return n
}

// change gives an order another description.
func change(t *testing.T, url, id, description string) (status int) {
	answer, err := http.Post(url+"/orders/"+id+"/changes", "application/json", strings.NewReader(`{"description":"`+description+`"}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

// The page and what its buttons do: an order, the same change record once more, a poison order, and its redrive.
func TestThePageShowsWhatBecomesOfOrders(t *testing.T) {
	url := startPage(t)
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		answer, err := http.Get(url + path)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		require.Contains(t, answer.Header.Get("Content-Type"), kind)
		require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.NotEmpty(t, body)
	}

	id := place(t, url, `{"description":"two coffees"}`)
	// What the Writer's hook tells may come after what the stream does.
	stages, last := watched(t, url, "", func(s []string) bool { return slices.Contains(s, "finished") && slices.Contains(s, "committed") })
	for _, stage := range []string{"committed", "delivered", "started", "mailed"} {
		require.Contains(t, stages, stage)
	}
	post(t, url+"/events/"+id+"%231/again", http.StatusAccepted)
	stages, last = watched(t, url, last, func(s []string) bool { return slices.Contains(s, "duplicate") })
	require.NotContains(t, stages, "committed", "what was seen comes again")
	require.NotContains(t, stages, "mailed")

	post(t, url+"/poison", http.StatusCreated)
	stages, last = watched(t, url, last, func(s []string) bool { return count(s, "parked") == 2 })
	require.Equal(t, 1, count(stages, "dead"))
	post(t, url+"/redrive", http.StatusOK)
	stages, _ = watched(t, url, last, func(s []string) bool { return slices.Contains(s, "redriven") })
	require.GreaterOrEqual(t, count(stages, "mailed"), 1)
}

// A change record that is lost is shown as such: when the order is changed, its first event is read from the table, and mailed first.
func TestThePageShowsAnEventThatTheStreamHasLost(t *testing.T) {
	url := startPage(t)
	post(t, url+"/lose", http.StatusAccepted)
	id := place(t, url, `{"description":"two coffees"}`)
	stages, last := watched(t, url, "", func(s []string) bool { return slices.Contains(s, "committed") })
	require.Equal(t, []string{"committed"}, stages)
	require.Equal(t, http.StatusOK, change(t, url, id, "three coffees"))
	stages, _ = watched(t, url, last, func(s []string) bool { return count(s, "finished") == 2 && count(s, "committed") == 1 })
	stages = slices.DeleteFunc(stages, func(s string) bool { return s == "committed" }) // the Writer's hook may be called later
	require.Equal(t, []string{"delivered", "healed", "started", "mailed", "finished", "started", "mailed", "finished"}, stages)
	var mails []Mail
	get(t, url+"/mails", http.StatusOK, &mails)
	require.Equal(t, []Mail{
		{EventID: id + "#1", OrderID: id, Text: "Thank you for your order: two coffees"},
		{EventID: id + "#2", OrderID: id, Text: "Your order is now: three coffees"},
	}, mails)
	post(t, url+"/events/"+id+"%231/again", http.StatusNotFound)
}

// What nobody knows is not found, however it is named, and is no failure of the service.
func TestThePageKnowsNoOtherEventsAndOrders(t *testing.T) {
	target := startPage(t)
	for _, id := range []string{"nobody", "nobody#1", ulid.Make().String(), "../..", "a/b", "\x00", "\xff", "<b>", strings.Repeat("x", 3000)} {
		escaped := url.PathEscape(id)
		post(t, target+"/events/"+escaped+"/again", http.StatusNotFound)
		require.Equal(t, http.StatusNotFound, change(t, target, escaped, "tea"))
		answer, err := http.Get(target + "/orders/" + escaped + "/steps")
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusNotFound, answer.StatusCode, id)
		require.Contains(t, string(body), "Nothing is known about this order")
		require.NotContains(t, string(body), "<b>")
	}
}

// A browser without JavaScript sends a form, and gets a page. curl -d gives its body the same type, and gets JSON.
func TestAFormPlacesAnOrder(t *testing.T) {
	target := startPage(t)
	send := func(body, accept, site string) (status int, kind, text, path string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target+"/", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", accept)
		r.Header.Set("Sec-Fetch-Site", site)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		content, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode, answer.Header.Get("Content-Type"), string(content), answer.Request.URL.Path
	}
	const browser, curl, self = "text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "same-origin"
	status, kind, text, path := send(`{"description":"tea"}`, curl, "")
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "application/json", kind)
	require.Contains(t, text, "orderId")
	require.Equal(t, "/", path)

	status, kind, text, path = send("description=%3Cb%3Etea%3C%2Fb%3E+%26+%E2%98%95", browser, self)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "text/html; charset=utf-8", kind)
	require.Regexp(t, "^/orders/[0-9A-Z]{26}/steps$", path)
	require.Contains(t, text, "committed by one transaction: <bdi>&lt;b&gt;tea&lt;/b&gt; &amp; ☕</bdi>")
	_, _ = watched(t, target, "", func(s []string) bool { return len(s) == 10 }) // five of each order
	answer, err := http.Get(target + path)
	require.NoError(t, err)
	content, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Regexp(t, "(?s)by one transaction.*came out of the stream.*handler started.*mail was sent.*handler finished", string(content))

	for body, problem := range map[string]string{
		"":                "the description is empty",
		"description=++":  "the description is empty",
		"description=%zz": "the form cannot be read",
		"description=" + strings.Repeat("x", 1001):    "at most 1000 are allowed",
		"description=" + strings.Repeat("x", 100<<10): "the body is larger than 65536 bytes",
		"description=" + strings.Repeat("x", 300<<10): "the form cannot be read",
	} {
		status, kind, text, _ = send(body, browser, self)
		want := http.StatusBadRequest
		if strings.Contains(problem, "larger") {
			want = http.StatusRequestEntityTooLarge
		}
		require.Equal(t, want, status, problem)
		require.Equal(t, "text/html; charset=utf-8", kind)
		require.Contains(t, text, problem)
	}
	status, _, _, _ = send("description=tea", browser, "cross-site")
	require.Equal(t, http.StatusForbidden, status, "another site's page places an order")
}

// With more orders than the page keeps steps of, what it counts is still right.
func TestThePageCountsWhatItDoesNotKeep(t *testing.T) {
	target := startPage(t)
	first := place(t, target, `{"description":"the first"}`)
	post(t, target+"/poison", http.StatusCreated)
	for range 500 {
		place(t, target, `{"description":"one of many"}`)
	}
	type counts struct{ Orders, Mails, Duplicates, Waiting int }
	var last counts
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := counts{Orders: 502, Mails: 501, Waiting: 3} // a mail may be shown before the order's commit is
	watch := func() (seen int) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, target+"/watch", nil)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		for lines := bufio.NewScanner(answer.Body); last != all && lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: {\"stage"); ok {
				var step struct{ Counts counts }
				require.NoError(t, json.Unmarshal([]byte("{\"stage"+data), &step))
				last = step.Counts
				seen++
			}
		}
		return seen
	}
	seen := 0
	for last != all && ctx.Err() == nil { // who is behind what is kept is cut off, and comes back as a browser does
		seen = watch()
	}
	require.Equal(t, all, last)
	require.Less(t, seen, 5*502, "all steps were kept")
	post(t, target+"/events/"+first+"%231/again", http.StatusNotFound)
	post(t, target+"/redrive", http.StatusOK)
}
