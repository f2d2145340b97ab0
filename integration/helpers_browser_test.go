package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browserVariable names a Chromium, and axeVariable the file axe.min.js of axe-core. run sets both.
const (
	browserVariable = "OUTBOX_BROWSER"
	axeVariable     = "OUTBOX_AXE"
)

// browser is a Chromium with an empty profile, and the order service's program.
type browser struct {
	ctx     context.Context
	binary  string
	version string
}

// startBrowser starts a Chromium that ends with the test.
func startBrowser(t *testing.T, path string) browser {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), path, "--version").Output()
	require.NoErrorf(t, err, "%s", path)
	profile, err := os.MkdirTemp("", "outbox-browser")
	require.NoError(t, err)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(name, true))
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		err := chromedp.Cancel(ctx) // waits until it has ended
		stop()
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(profile))
	})
	require.NoError(t, chromedp.Do(ctx))
	return browser{ctx: ctx, binary: buildExample(t, "orders"), version: strings.TrimSpace(string(version))}
}

// service starts an order service with an AWS of its own.
func (b browser) service(t *testing.T) (p *process, url string) {
	t.Helper()
	p = launch(t, "orders", localEnvironment("http://127.0.0.1:1"), b.binary, "-addr", "127.0.0.1:0")
	return p, p.url(t)
}

// tab is a page in a browser, of somebody who was never there before.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // exceptions, and what the page's policy has blocked
	asked    []string // URLs
}

// look is what a page is looked at with.
type look struct {
	width     int64 // 1280 by default
	dark      bool
	still     bool // who looks prefers reduced motion
	scriptOff bool
}

// open opens a page in a tab of its own.
func (b browser) open(t *testing.T, url string, l look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	ctx, timeout := context.WithTimeout(ctx, time.Minute)
	p := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		timeout()
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Empty(t, p.problems)
		for _, asked := range p.asked {
			require.Truef(t, strings.HasPrefix(asked, url), "the page asks for something from elsewhere: %s", asked)
		}
	})
	require.NoError(t, chromedp.Listen(ctx, p.heard))
	p.look(l)
	if l.scriptOff {
		call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	call(p, log.Enable, cdp.Empty{})
	p.do(chromedp.Navigate(url))
	if !l.scriptOff {
		p.await("the page is live", `document.getElementById("connection").textContent === "Live"`)
	}
	return p
}

// heard notes what the browser tells about the page.
func (p *tab) heard(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if e.Entry.Source == "security" {
			p.problems = append(p.problems, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		p.asked = append(p.asked, e.Request.URL)
	}
}

// look changes what the page is looked at with.
func (p *tab) look(l look) {
	p.t.Helper()
	if l.width == 0 {
		l.width = 1280
	}
	scheme, motion := "light", "no-preference"
	if l.dark {
		scheme = "dark"
	}
	if l.still {
		motion = "reduce"
	}
	p.do(chromedp.EmulateViewport(l.width, 800))
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion}}})
}

// do does steps, which must succeed.
func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoErrorf(p.t, chromedp.Do(p.ctx, steps...), "the page:\n%s", p.text())
}

// text is what the page says, for a test that fails.
func (p *tab) text() string {
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// evaluate returns the value of an expression in the page.
func evaluate[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoErrorf(p.t, err, "%s", expression)
	return v
}

// await waits until an expression is true in the page, whatever happens to the page meanwhile.
func (p *tab) await(what, expression string) {
	p.t.Helper()
	p.until(what, func() bool {
		v, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression))
		return err == nil && v
	})
}

// until waits until something holds.
func (p *tab) until(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		require.Truef(p.t, time.Now().Before(deadline), "it does not happen that %s; the page:\n%s", what, p.text())
	}
}

// click clicks with the mouse on something that does not wait for the answer to an earlier click.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.await(selector+" can be clicked on", fmt.Sprintf(`document.querySelector(%q).getAttribute("aria-disabled") !== "true"`, selector))
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

// press presses keys, one after the other.
func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.do(chromedp.KeyEvent(key))
	}
}

// shown is what a page shows.
type shown struct {
	Counts map[string]string
	None   bool // it says that there is no order
	Orders []shownOrder
}

// shownOrder is an order that a page shows.
type shownOrder struct {
	Title   string
	Problem string
	Events  []shownEvent
}

// shownEvent is an event of an order, with its stages.
type shownEvent struct {
	Name, About, State string
	Is                 map[string]string // "done", say, by stage
	At                 map[string]time.Time
	Detail             map[string]string
	Notes              []string
}

// stations are the stages that every event passes.
var stations = []string{"order", "event", "record", "handler", "mail"}

// readPage is the expression that reads what the page shows.
const readPage = `({
	counts: Object.fromEntries(["orders", "mails", "duplicates", "waiting"].map((k) => [k, document.getElementById("count-" + k).textContent])),
	none: document.getElementById("none").checkVisibility(),
	orders: [...document.querySelectorAll(".order")].map((o) => ({
		title: o.querySelector("h3").textContent,
		problem: o.querySelector(".problem").textContent,
		events: [...o.querySelectorAll(".event")].map((e) => {
			const stages = [...e.querySelectorAll(".stages li")];
			const by = (read) => Object.fromEntries(stages.map((s) => [s.dataset.stage, read(s)]));
			return {
				name: e.querySelector("h4").textContent, about: e.querySelector(".about").textContent, state: e.querySelector(".state").textContent,
				is: by((s) => s.className.replace(" new", "")),
				at: by((s) => s.querySelector("time")?.dateTime || "0001-01-01T00:00:00Z"),
				detail: by((s) => s.querySelector(".detail").textContent),
				notes: [...e.querySelectorAll(".notes li")].map((n) => n.textContent),
			};
		}),
	})),
})`

// shows reads what the page shows now.
func (p *tab) shows() shown {
	p.t.Helper()
	var s shown
	require.NoError(p.t, json.Unmarshal(evaluate[[]byte](p, readPage), &s))
	return s
}

// awaitShown waits until the page shows something.
func (p *tab) awaitShown(what string, is func(shown) bool) shown {
	p.t.Helper()
	var s shown
	p.until(what, func() bool { s = p.shows(); return is(s) })
	return s
}

// reload loads the page anew, and requires that it comes to show the same.
func (p *tab) reload() {
	p.t.Helper()
	before := p.shows()
	p.do(chromedp.Reload())
	p.await("the reloaded page is live", `document.getElementById("connection").textContent === "Live" && live`)
	require.Equal(p.t, before, p.shows(), "the reloaded page shows something else")
}

// call sends a command of the browser's protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := chromedp.Call(p.ctx, command, params)
	require.NoError(p.t, err, command.Method)
	return r
}

// wire passes connections on to a service, until it is cut.
type wire struct {
	listener net.Listener

	mu     sync.Mutex
	target string // "" while it is cut
	held   map[net.Conn]bool
}

// newWire is a wire to a service that ends with the test.
func newWire(t *testing.T, url string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{listener: listener, held: map[net.Conn]bool{}}
	w.mend(url)
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { w.pass(conn) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		w.cut()
		passing.Wait()
	})
	return w
}

// url is the address of the wire's own end.
func (w *wire) url() string { return "http://" + w.listener.Addr().String() }

// cut breaks all connections, and refuses others.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = ""
	for conn := range maps.Keys(w.held) {
		_ = conn.Close()
	}
}

// mend lets connections through, to this service.
func (w *wire) mend(url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = strings.TrimPrefix(url, "http://")
}

// hold keeps a connection in mind, if there is something to connect it to.
func (w *wire) hold(conn net.Conn) (target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.target != "" {
		w.held[conn] = true
	}
	return w.target
}

// pass passes a connection on until one end closes it.
func (w *wire) pass(from net.Conn) {
	defer from.Close()
	target := w.hold(from)
	if target == "" {
		return
	}
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	if w.hold(to) == "" {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
	_, _ = io.Copy(to, from)
	_ = to.Close()
	back.Wait()
}

// end asks a service to end, and requires that it does so well.
func end(t *testing.T, p *process) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	<-p.gone
	require.NoErrorf(t, p.failed, "the service did not end well:\n%s", p.log())
}

// arrived reports whether an event has passed all stations.
func (e shownEvent) arrived() bool {
	for _, s := range stations {
		if e.Is[s] != "done" {
			return false
		}
	}
	return e.State == "mail sent"
}
