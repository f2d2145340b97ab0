// Package fakeses is the one operation of Amazon SES that the order service calls, SendEmail of its version 2, for tests. It must not
// know the service.
package fakeses

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// SenderRejected is a code for Refuse: a MessageRejected that names the sender, and not the recipient.
const SenderRejected = "MessageRejected of the sender"

// Mail is a mail that was sent.
type Mail struct {
	From, To, Subject, Text, HTML string
	Headers                       map[string]string
}

// Server keeps what it is sent. It is safe for concurrent use.
type Server struct {
	mu    sync.Mutex
	mails []Mail
	calls int
	// refuse says with which status and error a mail is refused; 0 sends it.
	refuse func(Mail) (status int, code string)
	silent bool
}

// Refuse makes the server ask what to answer. With a status of 0 the mail is sent.
func (s *Server) Refuse(ask func(Mail) (status int, code string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = ask
}

// LoseAnswers makes the server send mails, and cut the connection instead of an answer.
func (s *Server) LoseAnswers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// Mails returns what was sent.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Calls returns how often SendEmail was called.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

type content struct{ Data, Charset string }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		FromEmailAddress string
		Destination      struct{ ToAddresses []string }
		Content          struct {
			Simple struct {
				Subject content
				Body    struct{ Text, Html content }
				Headers []struct{ Name, Value string }
			}
		}
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v2/email/outbound-emails" {
		fail(w, http.StatusNotFound, "NotFoundException", nil)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Destination.ToAddresses) != 1 {
		fail(w, http.StatusBadRequest, "BadRequestException", in.Destination.ToAddresses)
		return
	}
	m := Mail{From: in.FromEmailAddress, To: in.Destination.ToAddresses[0], Subject: in.Content.Simple.Subject.Data,
		Text: in.Content.Simple.Body.Text.Data, HTML: in.Content.Simple.Body.Html.Data, Headers: make(map[string]string)}
	for _, h := range in.Content.Simple.Headers {
		m.Headers[h.Name] = h.Value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.refuse != nil {
		if status, code := s.refuse(m); status != 0 {
			named := in.Destination.ToAddresses
			if code == SenderRejected {
				code, named = "MessageRejected", []string{m.From}
			}
			fail(w, status, code, named)
			return
		}
	}
	s.mails = append(s.mails, m)
	if s.silent {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"MessageId":"` + strconv.Itoa(len(s.mails)) + `"}`))
}

// fail refuses a mail in the words of SES, which name whom it has not verified.
func fail(w http.ResponseWriter, status int, code string, named []string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", code)
	w.Header().Set("X-Amzn-RequestId", "1-"+code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"message": "Email address is not verified. The following identities failed the check in region US-EAST-1: " + strings.Join(named, ", ")})
}
