package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/deployment"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/fakeses"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// lambdaWorld is what the functions find: AWS and SES at a port, under the names that the template gives them.
type lambdaWorld struct {
	builds
	deployed *deployment.Deployment
	config   service.Config
	cloud    *outboxtest.AWS
	mail     *fakeses.Server
	hangs    atomic.Bool // SES does not answer
	url      string
}

func newLambdaWorld(t *testing.T, programs ...string) *lambdaWorld {
	w := &lambdaWorld{builds: buildFunctions(t, programs...), cloud: outboxtest.Start(t), mail: &fakeses.Server{}}
	template, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	w.deployed, err = deployment.CloudFormation(template, sender())
	require.NoError(t, err)
	w.config = names(t, w.deployed)
	w.cloud.CreateTable(t, w.config.OrdersTable, "orderId")
	w.cloud.CreateOutbox(t, w.config.EventsTable, w.config.EventsStream, 1)
	createOwn(t, w.cloud.DynamoDB, w.config.InboxTable, w.config.DeadLettersTable, w.config.LeasesTable)
	mux := http.NewServeMux()
	mux.Handle("/", w.cloud)
	mux.HandleFunc("/v2/email/", func(rw http.ResponseWriter, r *http.Request) {
		if w.hangs.Load() {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		w.mail.ServeHTTP(rw, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// environment is what the template gives a function, and what Lambda and the test add.
func (w *lambdaWorld) environment(program string) map[string]string {
	all := map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_ENDPOINT_URL": w.url}
	for name, value := range w.deployed.Functions[program].Environment {
		all[name] = value
	}
	return all
}

// request is what API Gateway makes of a request.
func request(t *testing.T, method, path, body, key string, encoded bool) []byte {
	r := events.APIGatewayV2HTTPRequest{Version: "2.0", RouteKey: "$default", RawPath: path, Body: body, IsBase64Encoded: encoded,
		Headers: map[string]string{"content-type": "application/json", "host": "abc.execute-api.us-east-1.amazonaws.com"}}
	r.RequestContext.Stage = "$default"
	r.RequestContext.HTTP = events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: method, Path: path, Protocol: "HTTP/1.1", SourceIP: "192.0.2.1"}
	if key != "" {
		r.Headers["idempotency-key"] = key
	}
	payload, err := json.Marshal(r)
	require.NoError(t, err)
	return payload
}

// idOf is the id of the order of a key, if nobody knows the caller.
func idOf(key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", "", key))
	return ulid.ULID(sum[:16]).String()
}

// answered is the function's answer to a request, as API Gateway takes it.
func answered(status int, body string) string {
	text, _ := json.Marshal(body)
	code, _ := json.Marshal(status)
	return `{"statusCode":` + string(code) + `,"headers":{"Content-Type":"application/json"},"multiValueHeaders":null,"body":` + string(text) + `,"cookies":null}`
}

// The real binary of the API answers what API Gateway hands it.
func TestTheAPIFunction(t *testing.T) {
	w := newLambdaWorld(t, "api")
	api := w.start(t, "api", w.environment("api"))
	const coffee = `{"description":"two coffees","email":"a@example.com"}`
	for _, c := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"an order", request(t, "POST", "/", coffee, "1", false), answered(201, `{"orderId":"`+idOf("1")+"\"}\n")},
		{"again", request(t, "POST", "/", coffee, "1", false), answered(201, `{"orderId":"`+idOf("1")+"\"}\n")},
		{"the key of another", request(t, "POST", "/", `{"description":"tea"}`, "1", false), answered(422, `{"error":"this idempotency key was used for another order"}`+"\n")},
		{"in base64", request(t, "POST", "/", base64.StdEncoding.EncodeToString([]byte(coffee)), "2", true), answered(201, `{"orderId":"`+idOf("2")+"\"}\n")},
		{"no JSON", request(t, "POST", "/", "two coffees", "", false), answered(400, `{"error":"want a JSON object like {\"description\":\"two coffees\"}: invalid character 'w' in literal true (expecting 'r')"}`+"\n")},
		{"it is there", request(t, "GET", "/orders/"+idOf("1"), "", "", false), answered(200, `{"orderId":"`+idOf("1")+`","version":1,"description":"two coffees"}`+"\n")},
		{"a change", request(t, "POST", "/orders/"+idOf("1")+"/changes", `{"description":"three coffees"}`, "", false), answered(200, `{"orderId":"`+idOf("1")+`","version":2,"description":"three coffees"}`+"\n")},
		{"another is not", request(t, "GET", "/orders/none", "", "", false), answered(404, `{"error":"there is no such order"}`+"\n")},
		{"an unknown path", request(t, "POST", "/orders", coffee, "", false), answered(404, `{"error":"there is nothing here"}`+"\n")},
	} {
		a := api.invoke(t, c.payload, 10*time.Second)
		require.Equal(t, "response", a.kind, c.name)
		require.JSONEq(t, c.want, a.body, c.name)
	}
	a := api.invoke(t, []byte(`{"Records":[]}`), 10*time.Second)
	require.Equal(t, "error", a.kind)
	require.JSONEq(t, `{"errorMessage":"the payload is no request of an HTTP API in version 2.0","errorType":"errorString"}`, a.body)
	require.Len(t, rows(t, w.cloud, w.config.EventsTable), 3)

	// DynamoDB does not answer in time: the client is told what is not known.
	require.NoError(t, w.cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.Latency, Operation: "TransactWriteItems", Probability: 1, Duration: time.Minute}))
	a = api.invoke(t, request(t, "POST", "/", coffee, "3", false), 3*time.Second)
	require.JSONEq(t, answered(503, `{"error":"it is not known whether order `+idOf("3")+` was placed: repeat it with the same Idempotency-Key, or look it up"}`+"\n"), a.body)
}

// place places orders through the API without a function, and returns their records.
func (w *lambdaWorld) place(t *testing.T, m *mapping, emails ...string) []events.KinesisEventRecord {
	api, err := service.NewAPI(w.cloud.DynamoDB, w.config)
	require.NoError(t, err)
	for _, email := range emails {
		require.Equal(t, http.StatusCreated, send(t, api, http.MethodPost, "/", to(email), "").Code)
		require.NoError(t, w.cloud.Drain(t.Context())) // one after the other into the stream
	}
	m.waiting = nil
	m.read(t)
	require.Len(t, m.waiting, len(emails))
	return m.waiting
}

func batch(t *testing.T, records ...events.KinesisEventRecord) []byte {
	payload, err := json.Marshal(events.KinesisEvent{Records: records})
	require.NoError(t, err)
	return payload
}

func unfinished(r events.KinesisEventRecord) string {
	return `{"batchItemFailures":[{"itemIdentifier":"` + r.Kinesis.SequenceNumber + `"}]}`
}

const allFinished = `{"batchItemFailures":[]}`

// The real binary of the consumer handles what Lambda hands it: everything, a part, a record that is malformed, and what it has no
// time for. The redrive's handles what has become a dead letter.
func TestTheConsumerFunction(t *testing.T) {
	w := newLambdaWorld(t, "consumer", "redrive")
	m := &mapping{client: w.cloud.Kinesis, stream: w.config.EventsStream}
	consumer := w.start(t, "consumer", w.environment("consumer"))
	handle := func(want string, timeout time.Duration, records ...events.KinesisEventRecord) {
		t.Helper()
		a := consumer.invoke(t, batch(t, records...), timeout)
		require.Equal(t, "response", a.kind, a.body)
		require.Equal(t, want, a.body)
	}
	receivers := func() (to []string) {
		for _, mail := range w.mail.Mails() {
			to = append(to, mail.To)
		}
		return to
	}

	two := w.place(t, m, "a@example.com", "b@example.com")
	handle(allFinished, time.Minute, two...)
	require.ElementsMatch(t, []string{"a@example.com", "b@example.com"}, receivers())
	handle(allFinished, time.Minute, two...) // delivered again
	require.Len(t, w.mail.Mails(), 2)

	var busy, refused atomic.Bool
	busy.Store(true)
	refused.Store(true)
	w.mail.Refuse(func(mail fakeses.Mail) (int, string) {
		switch {
		case mail.To == "busy@example.com" && busy.Load():
			return http.StatusTooManyRequests, "TooManyRequestsException"
		case mail.To == "nobody@example.com" && refused.Load():
			return http.StatusBadRequest, "MessageRejected"
		}
		return 0, ""
	})
	part := w.place(t, m, "c@example.com", "busy@example.com")
	handle(unfinished(part[1]), time.Minute, part...)
	busy.Store(false)
	handle(allFinished, time.Minute, part[1:]...)
	require.ElementsMatch(t, []string{"a@example.com", "b@example.com", "c@example.com", "busy@example.com"}, receivers())

	// What is malformed becomes a dead letter, and so does what SES refuses; each is a line for CloudWatch.
	require.NotContains(t, consumer.stdout.String(), "CloudWatchMetrics")
	dead := w.place(t, m, "nobody@example.com")
	malformed := record("49664477183209245172146937098384026164253735134234771458", []byte(`{"awsRegion":"us-east-1"`))
	handle(allFinished, time.Minute, malformed, dead[0])
	for _, kind := range []string{"ORDER_CREATED", ""} {
		line := regexp.MustCompile(`"Stack":"orders","consumer":"confirmations","DeadLetters":1,"deadLetter":"[^"]*","eventType":"` + kind + `"`)
		require.Eventually(t, func() bool { return line.MatchString(consumer.stdout.String()) }, time.Minute, 10*time.Millisecond, kind) // through a pipe
	}

	// SES does not answer: the function answers what is finished before its time is over, and the event can be handled later.
	w.hangs.Store(true)
	late := w.place(t, m, "", "late@example.com")
	handle(unfinished(late[1]), 3*time.Second, late...)
	w.hangs.Store(false)
	handle(allFinished, time.Minute, late...)
	require.Contains(t, receivers(), "late@example.com")
	require.Len(t, w.mail.Mails(), 5)

	a := consumer.invoke(t, request(t, "POST", "/", "{}", "", false), time.Minute)
	require.Equal(t, "error", a.kind)
	require.Contains(t, a.body, "outbox: Invoke: the payload is no event of Kinesis or DynamoDB Streams")

	// The dead letter is redriven when somebody has asked for it.
	redrive := w.start(t, "redrive", w.environment("redrive"))
	event := []byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`)
	require.JSONEq(t, `{"busy":0,"failed":0,"redriven":0}`, redrive.invoke(t, event, time.Minute).body)
	letters, err := outbox.NewDeadLetterTable(w.cloud.DynamoDB, w.config.DeadLettersTable, service.Group)
	require.NoError(t, err)
	refused.Store(false)
	n, err := letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.JSONEq(t, `{"busy":0,"failed":1,"redriven":1}`, redrive.invoke(t, event, time.Minute).body) // the malformed one stays
	require.Contains(t, receivers(), "nobody@example.com")
}

// The real binary of the reconcile reads its part of the events table, says what it found, and tells CloudWatch.
func TestTheReconcileFunction(t *testing.T) {
	w := newLambdaWorld(t, "reconcile")
	reconcile := w.start(t, "reconcile", w.environment("reconcile"))
	a := reconcile.invoke(t, []byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`), time.Minute)
	require.Equal(t, "response", a.kind, a.body)
	require.Regexp(t, `^{"delivered":0,"searched":0,"segment":[0-9]+,"undelivered":0}$`, a.body)
	for _, metric := range []string{`"Stack":"orders","consumer":"confirmations","UndeliveredEvents":0}`, `"Stack":"orders","consumer":"confirmations","ReconciledSegments":1}`} {
		require.Eventually(t, func() bool { return strings.Contains(reconcile.stdout.String(), metric) }, time.Minute, 10*time.Millisecond, metric) // through a pipe
	}
}

// mailVariable says where an aws-ses-v2-local listens, which integration/run starts.
const mailVariable = "ORDERS_MAIL"

// A mail of the real binary arrives with its two parts and the event's id, at the fake SES of the tests, and at one that others wrote.
func TestAMailOfTheFunctionArrives(t *testing.T) {
	w := newLambdaWorld(t, "consumer")
	m := &mapping{client: w.cloud.Kinesis, stream: w.config.EventsStream}
	inboxes := map[string]func(t *testing.T) []fakeses.Mail{"": func(*testing.T) []fakeses.Mail { return w.mail.Mails() }}
	if url := os.Getenv(mailVariable); url != "" {
		inboxes[url] = func(t *testing.T) []fakeses.Mail { return stored(t, url) }
	}
	for url, inbox := range inboxes {
		environment := w.environment("consumer")
		if url != "" {
			environment["AWS_ENDPOINT_URL_SESV2"] = url
		}
		before := len(inbox(t))
		placed := w.place(t, m, "a@example.com", "b@example.com")
		consumer := w.start(t, "consumer", environment)
		for range 2 { // delivered twice
			require.Equal(t, allFinished, consumer.invoke(t, batch(t, placed...), time.Minute).body)
		}
		mails := inbox(t)[before:]
		require.Len(t, mails, 2, url)
		slices.SortFunc(mails, func(a, b fakeses.Mail) int { return strings.Compare(a.To, b.To) })
		for i, r := range placed {
			change, err := outbox.DecodeRecord(r.Kinesis.Data)
			require.NoError(t, err)
			require.Equal(t, fakeses.Mail{
				From: "shop@example.com", To: []string{"a@example.com", "b@example.com"}[i], Subject: "Your order",
				Text:    "Thank you for your order: two coffees\n\nIts number is " + change.AggregateID + ".\n",
				HTML:    "<p>Thank you for your order: two coffees</p>\n<p>Its number is <b>" + change.AggregateID + "</b>.</p>\n",
				Headers: map[string]string{service.EventIDHeader: change.ID},
			}, mails[i], url)
		}
		t.Logf("%d mails read back from %q", len(mails), url)
	}
}

// stored reads the inbox of an aws-ses-v2-local.
func stored(t *testing.T, url string) (mails []fakeses.Mail) {
	answer, err := http.Get(url + "/store")
	require.NoError(t, err)
	defer answer.Body.Close()
	var store struct {
		Emails []struct {
			From, Subject string
			Destination   struct{ To []string }
			Body          struct{ Text, HTML string }
			Headers       []struct{ Name, Value string }
		}
	}
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&store))
	for _, e := range store.Emails {
		m := fakeses.Mail{From: e.From, To: strings.Join(e.Destination.To, ","), Subject: e.Subject, Text: e.Body.Text, HTML: e.Body.HTML, Headers: map[string]string{}}
		for _, h := range e.Headers {
			m.Headers[h.Name] = h.Value
		}
		mails = append(mails, m)
	}
	return mails
}

// A redrive that has no time left says what it has done, and the next one goes on.
func TestARedriveEndsInTime(t *testing.T) {
	cloud := outboxtest.Start(t)
	c := service.Config{EventsTable: "events", InboxTable: "inbox", DeadLettersTable: "letters", MailFrom: "shop@example.com"}
	createOwn(t, cloud.DynamoDB, c.InboxTable, c.DeadLettersTable, "leases")
	redrive, err := service.NewRedrive(cloud.DynamoDB, c, nil, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	answer, err := redrive.Invoke(ctx, nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"busy":0,"failed":0,"redriven":0}`, string(answer))
	_, err = cloud.Cut("DynamoDB")
	require.NoError(t, err)
	_, err = redrive.Invoke(t.Context(), nil)
	require.ErrorContains(t, err, "dead letter table letters")
}

// Without its environment a function says what is missing, to Lambda and in its log, and ends.
func TestAFunctionThatCannotStartSaysWhy(t *testing.T) {
	b := buildFunctions(t, "api", "consumer", "reconcile", "redrive")
	for _, c := range []struct {
		program     string
		environment map[string]string
		want        string
	}{
		{"api", map[string]string{"AWS_REGION": "us-east-1"}, "environment variable ORDERS_TABLE is not set\nenvironment variable EVENTS_TABLE is not set"},
		{"consumer", map[string]string{"AWS_REGION": "us-east-1", "EVENTS_TABLE": "e", "INBOX_TABLE": "i", "DEAD_LETTERS_TABLE": "d", "STACK": "s", "MAIL_RATE": "1"}, "environment variable MAIL_FROM is not set"},
		{"reconcile", map[string]string{"AWS_REGION": "us-east-1", "EVENTS_TABLE": "e", "INBOX_TABLE": "i", "DEAD_LETTERS_TABLE": "d", "MAIL_FROM": "s@example.com", "MAIL_RATE": "1"}, "environment variable STACK is not set"},
		{"redrive", map[string]string{"AWS_REGION": "us-east-1", "EVENTS_TABLE": "e", "EVENTS_STREAM": "s", "INBOX_TABLE": "i", "DEAD_LETTERS_TABLE": "d", "STACK": "s", "MAIL_FROM": "the shop", "MAIL_RATE": "1"}, `the sender "the shop": want only an address, like a@example.com`},
		{"api", map[string]string{"ORDERS_TABLE": "o", "EVENTS_TABLE": "e"}, "no AWS Region is configured: set AWS_REGION"},
	} {
		f := b.start(t, c.program, c.environment)
		a := f.answer(t)
		require.Equal(t, answer{"error", "init", a.body}, a)
		var said struct{ ErrorMessage, ErrorType string }
		require.NoError(t, json.Unmarshal([]byte(a.body), &said))
		require.Equal(t, c.want, said.ErrorMessage)
		require.Equal(t, "InitError", said.ErrorType)
		require.EqualError(t, <-f.ended, "exit status 1")
		require.Equal(t, c.program+": "+c.want+"\n", f.stderr.String())
	}
}
