package page

import (
	"bytes"
	"encoding/json"
	"html/template"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// What a browser without JavaScript gets: the form is posted as such, and its answer is a page.

var plain = template.Must(template.ParseFS(files, "plain.html"))

type plainPage struct {
	Title   string
	Problem string
	Order   string
	Steps   []Step // the oldest first
}

// sentences are what a step says in words.
var sentences = map[Stage]string{
	Committed: "The order and its event were committed by one transaction",
	Delivered: "The event's change record came out of the stream",
	Healed:    "A later event came first, so this one was read from the events table",
	Started:   "The handler started",
	Mailed:    "The mail was sent",
	Finished:  "The handler finished",
	Failed:    "The handler failed",
	Duplicate: "A duplicate was suppressed, no handler ran",
	Dead:      "The event became a dead letter",
	Parked:    "The event waits behind a dead letter of its order",
}

// Sentence says in words what happened.
func (s Stage) Sentence() string { return sentences[s] }

// Name is the event's type in words.
func (s Step) Name() string {
	if s.Type == (service.OrderChanged{}).EventType() {
		return "Order changed"
	}
	return "Order created"
}

// isForm reports whether a request is a browser's, for a form. The type of the content says too little: curl -d sends the same one.
func isForm(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded" && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// maxForm is larger than any form that the API would take.
const maxForm = 256 << 10

// place passes an order on to the API. Where it comes from a form, the answer is a page.
func place(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isForm(r) {
			api.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			showPlain(w, http.StatusBadRequest, plainPage{Title: "Not placed", Problem: "the form cannot be read"})
			return
		}
		said := ask(api, r, "/", map[string]string{"description": r.PostForm.Get("description")})
		content := said.content()
		if said.status != http.StatusCreated || content.OrderID == "" {
			showPlain(w, said.status, plainPage{Title: "Not placed", Problem: content.Error})
			return
		}
		http.Redirect(w, r, "/orders/"+content.OrderID+"/steps", http.StatusSeeOther) // so that to reload it places no other order
	})
}

// ask posts a body to the API, for the sake of a request to the page.
func ask(api http.Handler, r *http.Request, path string, body map[string]string) *answer {
	said := &answer{header: http.Header{}, status: http.StatusOK}
	text, err := json.Marshal(body)
	if err != nil {
		refuse(said, r, err)
		return said
	}
	inner := r.Clone(r.Context())
	inner.URL, inner.Header = &url.URL{Path: path}, http.Header{"Content-Type": {"application/json"}}
	inner.Body, inner.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	api.ServeHTTP(said, inner)
	return said
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// content is what the API's answers say.
func (a *answer) content() (c struct{ OrderID, Error string }) {
	if err := json.Unmarshal(a.body.Bytes(), &c); err != nil {
		slog.Error("answer of the API not understood", "status", a.status, "error", err)
	}
	return c
}

// steps shows what is known about an order.
func (p *Page) steps(w http.ResponseWriter, r *http.Request) {
	content := plainPage{Title: "Order placed", Order: r.PathValue("id")}
	for _, line := range p.feed.kept() {
		var s Step
		if json.Unmarshal(line, &s) == nil && s.Order == content.Order {
			content.Steps = append(content.Steps, s)
		}
	}
	if len(content.Steps) == 0 {
		showPlain(w, http.StatusNotFound, plainPage{Title: "Nothing is known about this order", Order: content.Order})
		return
	}
	byTime(content.Steps)
	showPlain(w, http.StatusOK, content)
}

// byTime sorts the steps of an order. The service hears of a transaction from the Writer, and that may be after the stream has
// delivered its change record; when it was committed, the change record tells.
func byTime(steps []Step) {
	changed := map[string]time.Time{}
	for _, s := range steps {
		if !s.ChangedAt.IsZero() {
			changed[s.Event] = s.ChangedAt
		}
	}
	for i, s := range steps {
		if at, ok := changed[s.Event]; ok && s.Stage == Committed {
			steps[i].At = at
		}
	}
	slices.Reverse(steps)
	slices.SortStableFunc(steps, func(a, b Step) int { return a.At.Compare(b.At) })
}

func showPlain(w http.ResponseWriter, status int, content plainPage) {
	var text bytes.Buffer
	if err := plain.Execute(&text, content); err != nil {
		slog.Error("page not shown", "error", err)
		service.Answer(w, http.StatusInternalServerError, service.Problem{Error: "the page cannot be shown"})
		return
	}
	maps.Copy(w.Header(), headers("text/html"))
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}
