package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// The page of the order service in a real browser: what it shows, what its buttons do, and who can use it.
func TestPage(t *testing.T) {
	path := os.Getenv(browserVariable)
	if path == "" {
		summaries.note("page of the order service: not seen in a browser, since " + browserVariable + " names none")
		t.Skip(browserVariable + " names no browser; integration/run installs one, and sets it")
	}
	b := startBrowser(t, path)
	parts := []pagePart{
		{"an order arrives, and a duplicate is suppressed", orderAndDuplicate},
		{"a poison order parks what follows, and a redrive sends it in order", poisonAndRedrive},
		{"what the stream has lost is read from the table", lostRecord},
		{"a lost connection, and another service", reconnect},
		{"the keyboard does", keyboardOnly},
		{"hostile descriptions are text", hostileDescriptions},
		{"without JavaScript", withoutScript},
		{"a thousand orders", thousandOrders},
		{"reduced motion", reducedMotion},
		{"accessibility", accessibility},
	}
	if os.Getenv(picturesVariable) != "" {
		parts = append(parts, pagePart{"pictures", pictures})
	}
	var passed []string
	for _, part := range parts {
		ran := false
		if t.Run(part.name, func(t *testing.T) { ran = true; part.run(t, b) }) && ran {
			passed = append(passed, part.name)
		}
	}
	summaries.note(fmt.Sprintf("page of the order service in %s: %s", b.version, strings.Join(passed, "; ")))
}

type pagePart struct {
	name string
	run  func(*testing.T, browser)
}

func hasNote(e shownEvent, text string) bool {
	return slices.ContainsFunc(e.Notes, func(n string) bool { return strings.Contains(n, text) })
}

// sentMails are the texts of the mails, in the order in which they were sent.
func sentMails(t *testing.T, url string) (texts []string) {
	t.Helper()
	var mails []struct{ Text string }
	getJSON(t, url+"/mails", &mails)
	for _, m := range mails {
		texts = append(texts, m.Text)
	}
	return texts
}

func counts(orders, mails, duplicates, waiting int) map[string]string {
	return map[string]string{"orders": strconv.Itoa(orders), "mails": strconv.Itoa(mails), "duplicates": strconv.Itoa(duplicates), "waiting": strconv.Itoa(waiting)}
}

func orderAndDuplicate(t *testing.T, b browser) {
	service, url := b.service(t)
	p := b.open(t, url, look{})
	require.True(t, p.shows().None)
	evaluate[bool](p, `document.getElementById("description").select(); true`)
	p.do(chromedp.SendKeys(chromedp.CSS("#description"), "three teas"))
	p.click("#place button")
	s := p.awaitShown("the order arrives at all stations", func(s shown) bool {
		return len(s.Orders) == 1 && len(s.Orders[0].Events) == 1 && s.Orders[0].Events[0].arrived()
	})
	require.False(t, s.None)
	require.Equal(t, "three teas", s.Orders[0].Title)
	e := s.Orders[0].Events[0]
	require.Equal(t, "Order created", e.Name)
	require.Equal(t, "Thank you for your order: three teas", e.Detail["mail"])
	require.Equal(t, e.At["order"].IsZero(), false)
	require.False(t, e.At["record"].Before(e.At["order"]))
	require.False(t, e.At["handler"].Before(e.At["record"]))
	require.False(t, e.At["mail"].Before(e.At["handler"]))
	require.Equal(t, counts(1, 1, 0, 0), s.Counts)

	p.click("#again")
	s = p.awaitShown("the duplicate is suppressed", func(s shown) bool { return hasNote(s.Orders[0].Events[0], "Duplicate suppressed") })
	require.Equal(t, counts(1, 1, 1, 0), s.Counts)
	p.click(".event button")
	s = p.awaitShown("another duplicate is suppressed", func(s shown) bool { return hasNote(s.Orders[0].Events[0], "2 duplicates suppressed") })
	require.Equal(t, counts(1, 1, 2, 0), s.Counts)
	require.True(t, s.Orders[0].Events[0].arrived())
	require.Equal(t, []string{"Thank you for your order: three teas"}, sentMails(t, url))
	p.reload()

	p.click(".order-head button")
	s = p.awaitShown("the change arrives", func(s shown) bool { return len(s.Orders[0].Events) == 2 && s.Orders[0].Events[1].arrived() })
	require.Equal(t, "Order changed", s.Orders[0].Events[1].Name)
	require.Regexp(t, `^changed at [0-9:]{8}$`, s.Orders[0].Events[1].About)
	end(t, service) // with a page that is watching
}

func poisonAndRedrive(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{})
	p.click("#poison")
	s := p.awaitShown("the poison order is a dead letter and parks its changes", func(s shown) bool { return s.Counts["waiting"] == "3" })
	states := func(s shown) (states []string) {
		for _, e := range s.Orders[0].Events {
			states = append(states, e.State)
		}
		return states
	}
	require.Equal(t, []string{"dead letter", "parked", "parked"}, states(s))
	require.Equal(t, "failed", s.Orders[0].Events[0].Is["handler"])
	require.Contains(t, s.Orders[0].Events[0].Detail["handler"], "refuses the address")
	for _, e := range s.Orders[0].Events[1:] {
		require.Equal(t, map[string]string{"order": "done", "event": "done", "record": "done", "handler": "held", "mail": ""}, e.Is)
	}
	p.click(".order-head button")
	s = p.awaitShown("a later change is parked, too", func(s shown) bool { return s.Counts["waiting"] == "4" })
	require.Equal(t, []string{"dead letter", "parked", "parked", "parked"}, states(s))

	require.Equal(t, http.StatusCreated, postForm(t, url+"/", `{"description":"another"}`))
	s = p.awaitShown("another order passes", func(s shown) bool { return len(s.Orders) == 2 && s.Orders[0].Events[0].arrived() })
	require.Equal(t, counts(2, 1, 0, 4), s.Counts)
	p.click(".order:last-child .event button")
	s = p.awaitShown("a second delivery is kept once", func(s shown) bool { return hasNote(s.Orders[1].Events[0], "Delivered again while it waits") })
	require.Equal(t, counts(2, 1, 0, 4), s.Counts)
	p.reload()

	p.click("#redrive")
	s = p.awaitShown("the redrive has sent the mails", func(s shown) bool { return s.Counts["waiting"] == "0" })
	poison := s.Orders[1]
	var want []string
	for i, e := range poison.Events {
		require.Truef(t, e.arrived(), "%+v", e)
		require.True(t, hasNote(e, "Redriven"))
		want = append(want, e.Detail["mail"])
		if i > 0 {
			require.False(t, e.At["mail"].Before(poison.Events[i-1].At["mail"]), "the mails are out of order")
		}
	}
	require.Equal(t, []string{"Thank you for your order: a poison order", "Your order is now: a poison order, with milk", "Your order is now: a poison order, with milk and sugar"}, want[:3])
	require.Equal(t, append([]string{"Thank you for your order: another"}, want...), sentMails(t, url))
	require.Equal(t, counts(2, 5, 0, 0), s.Counts)
	p.reload()
	p.click("#redrive")
	p.await("a redrive says that nothing was waiting", `document.getElementById("news").textContent.includes("nothing was waiting")`)
}

func lostRecord(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{})
	p.click("#lose")
	p.await("the page says what will happen", `document.getElementById("news").textContent.includes("will be lost")`)
	p.click("#place button")
	p.awaitShown("the order is placed", func(s shown) bool { return len(s.Orders) == 1 && s.Orders[0].Events[0].Is["event"] == "done" })
	p.click(".order-head button")
	s := p.awaitShown("both mails are sent", func(s shown) bool { return s.Counts["mails"] == "2" && s.Orders[0].Events[1].arrived() })
	lost := s.Orders[0].Events[0]
	require.Equal(t, map[string]string{"order": "done", "event": "done", "record": "held", "handler": "done", "mail": "done"}, lost.Is)
	require.Equal(t, "mail sent", lost.State)
	require.True(t, hasNote(lost, "Read from the table"), "%v", lost.Notes)
	require.False(t, s.Orders[0].Events[1].At["mail"].Before(lost.At["mail"]), "the mails are out of order")
	mails := sentMails(t, url)
	require.Len(t, mails, 2)
	require.Equal(t, "Thank you for your order: two coffees", mails[0])
	require.Regexp(t, "^Your order is now: changed at [0-9:]{8}$", mails[1])
	p.reload()
}

func reconnect(t *testing.T, b browser) {
	first, url := b.service(t)
	w := newWire(t, url)
	p := b.open(t, w.url(), look{})
	require.Equal(t, http.StatusCreated, postForm(t, url+"/", `{"description":"before"}`))
	p.awaitShown("the first order arrives", func(s shown) bool { return len(s.Orders) == 1 && s.Orders[0].Events[0].arrived() })
	evaluate[bool](p, `document.querySelector(".order").seen = true`)

	w.cut()
	p.await("the page says that it is not connected", `document.getElementById("connection").textContent.startsWith("Not connected")`)
	p.click("#place button")
	p.await("a failed request is told", `document.getElementById("place-problem").textContent === "The service does not answer."`)
	require.Equal(t, http.StatusCreated, postForm(t, url+"/", `{"description":"meanwhile"}`))
	w.mend(url)
	s := p.awaitShown("what happened meanwhile arrives", func(s shown) bool { return len(s.Orders) == 2 && s.Orders[0].Events[0].arrived() })
	require.Equal(t, counts(2, 2, 0, 0), s.Counts)
	require.True(t, evaluate[bool](p, `document.querySelector(".order:last-child").seen === true`), "the page was told again what it knew")
	p.await("the page is live again", `document.getElementById("connection").textContent === "Live"`)

	// Nobody sees the page, and then somebody does.
	const hide = `Object.defineProperty(document, "hidden", { value: %t, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); source.readyState`
	require.Equal(t, 2, evaluate[int](p, fmt.Sprintf(hide, true)), "a page that nobody sees keeps its connection")
	require.Equal(t, http.StatusCreated, postForm(t, url+"/", `{"description":"unseen"}`))
	require.NotEqual(t, 2, evaluate[int](p, fmt.Sprintf(hide, false)))
	s = p.awaitShown("what happened unseen arrives", func(s shown) bool { return len(s.Orders) == 3 && s.Orders[0].Events[0].arrived() })
	require.Equal(t, counts(3, 3, 0, 0), s.Counts)
	require.True(t, evaluate[bool](p, `document.querySelector(".order:last-child").seen === true`), "the page was told again what it knew")

	end(t, first)
	w.cut()
	p.await("the page says that it is not connected", `document.getElementById("connection").textContent.startsWith("Not connected")`)
	_, url = b.service(t)
	w.mend(url)
	s = p.awaitShown("the other service's orders are shown", func(s shown) bool { return s.None })
	require.Equal(t, counts(0, 0, 0, 0), s.Counts)
	p.click("#place button")
	s = p.awaitShown("an order arrives", func(s shown) bool { return len(s.Orders) == 1 && s.Orders[0].Events[0].arrived() })
	require.Equal(t, counts(1, 1, 0, 0), s.Counts)
	p.reload()
}

// focused is a control that has the focus, and whether one sees that it has.
type focused struct {
	Name string
	Ring bool
}

const readFocus = `(() => {
	const e = document.activeElement, s = getComputedStyle(e);
	return { name: e === document.body ? "" : e.id || e.textContent, ring: s.outlineStyle === "solid" && parseFloat(s.outlineWidth) >= 2 };
})()`

// tabTo presses Tab until a control has the focus.
func (p *tab) tabTo(name string) {
	p.t.Helper()
	for range 40 {
		p.press(kb.Tab)
		f := evaluate[focused](p, readFocus)
		if f.Name != "" {
			require.Truef(p.t, f.Ring, "one does not see that %q has the focus", f.Name)
		}
		if f.Name == name {
			return
		}
	}
	require.FailNowf(p.t, "not reached", "the Tab key does not lead to %q", name)
}

func keyboardOnly(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{})
	p.tabTo("description")
	p.press("x", kb.Enter) // the first replaces the text, which Tab has selected
	p.awaitShown("Enter places the order", func(s shown) bool {
		return len(s.Orders) == 1 && s.Orders[0].Title == "x" && s.Orders[0].Events[0].arrived()
	})
	require.Equal(t, "description", evaluate[focused](p, readFocus).Name)
	p.tabTo("again")
	p.press(kb.Enter)
	p.awaitShown("Enter delivers again", func(s shown) bool { return s.Counts["duplicates"] == "1" })
	p.tabTo("poison")
	p.press(" ")
	s := p.awaitShown("the space bar places a poison order", func(s shown) bool { return s.Counts["waiting"] == "3" })
	require.Equal(t, "a poison order", s.Orders[0].Title)
	p.tabTo("redrive")
	p.press(kb.Enter)
	p.awaitShown("Enter redrives", func(s shown) bool { return s.Counts["waiting"] == "0" && s.Counts["mails"] == "4" })
	require.Equal(t, "redrive", evaluate[focused](p, readFocus).Name, "a button does not keep the focus")
	reached := map[string]bool{}
	for range 20 {
		p.press(kb.Tab)
		reached[evaluate[focused](p, readFocus).Name] = true
	}
	for _, name := range evaluate[[]string](p, `[...document.querySelectorAll("a, button, input")].filter((e) => e.checkVisibility()).map((e) => e.id || e.textContent)`) {
		require.Containsf(t, reached, name, "the Tab key does not lead to %q", name)
	}
}

func hostileDescriptions(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{width: 390})
	place := func(text string) {
		value, err := json.Marshal(text)
		require.NoError(t, err)
		evaluate[string](p, `document.getElementById("description").value = `+string(value))
		p.click("#place button")
	}
	long := strings.Repeat("x", 1000)
	for i, text := range []string{
		`<script>window.hacked = 1</script>`, `<img src=x onerror="window.hacked = 2">`, `"><b>bold</b>&amp;`,
		"☕️ for 👩‍👩‍👧‍👦", "שתי כוסות קפה", "right \u202e to left \u202c", "null\u0000 \u2028 end", long,
	} {
		place(text)
		want := text
		if text == long {
			want = long[:300] + "…"
		}
		s := p.awaitShown("the order arrives", func(s shown) bool { return len(s.Orders) == i+1 && s.Orders[0].Events[0].arrived() })
		require.Equal(t, want, s.Orders[0].Title)
		require.Contains(t, s.Orders[0].Events[0].Detail["mail"], want[:min(len(want), 250)])
	}
	require.Empty(t, evaluate[[]string](p, `[...document.querySelectorAll("main script, main img, main b")].map((e) => e.outerHTML)`))
	require.True(t, evaluate[bool](p, `window.hacked === undefined`))
	require.LessOrEqual(t, evaluate[int](p, `document.documentElement.scrollWidth`), 390, "the page is wider than the screen")

	before := p.shows()
	place(strings.Repeat("10 KB are too many ", 540))
	p.await("the refusal is told", `document.getElementById("place-problem").textContent.includes("at most 1000 are allowed")`)
	require.Equal(t, "true", evaluate[string](p, `document.getElementById("description").getAttribute("aria-invalid")`))
	require.Equal(t, before, p.shows())
	place("fine")
	p.awaitShown("the next order arrives", func(s shown) bool { return s.Orders[0].Title == "fine" && s.Orders[0].Events[0].arrived() })
	require.Equal(t, " false", evaluate[string](p, `document.getElementById("place-problem").textContent + " " + document.getElementById("description").getAttribute("aria-invalid")`))
}

func withoutScript(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{scriptOff: true})
	require.Equal(t, []string{"Place order"}, evaluate[[]string](p, `[...document.querySelectorAll("button")].filter((e) => e.checkVisibility()).map((e) => e.textContent)`))
	p.do(chromedp.SetValue(chromedp.CSS("#description"), "<b>tea</b> & ☕"))
	p.click("#place button")
	p.await("the answer is a page", `document.querySelector("h1").textContent === "Order placed"`)
	p.do(chromedp.Reload())
	p.until("the answer tells of the mail", func() bool {
		if strings.Contains(p.text(), "The mail was sent: Thank you for your order: <b>tea</b> & ☕") {
			return true
		}
		p.click("main a")
		p.await("the page is there again", `document.querySelector("h1")?.textContent === "Order placed"`)
		return false
	})
	require.Len(t, sentMails(t, url), 1, "to reload the answer places another order")
	p.click(`a[href="/"]`)
	p.await("the link leads back", `document.getElementById("description") !== null`)
	p.do(chromedp.SetValue(chromedp.CSS("#description"), "   "))
	p.click("#place button")
	p.await("a refusal is a page", `document.querySelector("h1")?.textContent === "Not placed"`)
	require.Contains(t, p.text(), "The order was not placed: the description is empty.")
}

func thousandOrders(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{})
	p.click("#poison")
	p.awaitShown("the poison order waits", func(s shown) bool { return s.Counts["waiting"] == "3" })
	for i := range 1000 {
		placeOrder(t, url, fmt.Sprint("order ", i))
	}
	const allMails = `document.getElementById("count-mails").textContent === "1000"`
	p.await("all mails are counted", allMails)
	s := p.shows()
	require.Equal(t, counts(1001, 1000, 0, 3), s.Counts)
	require.Len(t, s.Orders, 30)
	require.Equal(t, "order 999", s.Orders[0].Title)
	require.Equal(t, "a poison order", s.Orders[29].Title, "what waits has gone")
	for _, o := range s.Orders[:29] {
		require.Truef(t, o.Events[0].arrived(), "%+v", o)
	}
	p.await("all of it is told", `news.length === 0`)
	evaluate[bool](p, `for (let i = 0; i < 100; i++) tell("news ", i); true`)
	p.await("much news is told in few words", `[...document.querySelectorAll("#news p")].map((e) => e.textContent).join() === "96 more things happened.,news 96,news 97,news 98,news 99"`)

	p.do(chromedp.Reload())
	p.await("the reloaded page counts the same", allMails)
	s = p.shows()
	require.Equal(t, counts(1001, 1000, 0, 3), s.Counts)
	require.Equal(t, "order 999", s.Orders[0].Title)
	p.click("#redrive")
	s = p.awaitShown("what is not shown any more is redriven", func(s shown) bool { return s.Counts["waiting"] == "0" })
	require.Equal(t, counts(1001, 1003, 0, 0), s.Counts)
}

func reducedMotion(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{})
	p.click("#place button")
	p.awaitShown("the order arrives", func(s shown) bool { return len(s.Orders) == 1 && s.Orders[0].Events[0].arrived() })
	const animation = `getComputedStyle(document.querySelector(".stages .new .mark")).animationName`
	require.Equal(t, "arrive", evaluate[string](p, animation))
	p.look(look{still: true})
	require.Equal(t, "none", evaluate[string](p, animation))
}

// postForm posts as curl -d does.
func postForm(t *testing.T, url, body string) (status int) {
	t.Helper()
	res, err := http.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}
