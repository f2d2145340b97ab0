package service

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func change(t *testing.T, api http.Handler, id, description string) (int, string) {
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders/"+id+"/changes", strings.NewReader(fmt.Sprintf(`{"description":%q}`, description))))
	return w.Code, w.Body.String()
}

// someOrder places an order, and returns its id.
func someOrder(t *testing.T, api http.Handler) string {
	status, answer := post(t, api, "", `{"description":"0","email":"customer@example.com"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	return regexp.MustCompile("[0-9A-Z]{26}").FindString(answer)
}

// sentences notes what customers are told of their orders, in order. It is safe for concurrent use.
type sentences struct {
	mu    sync.Mutex
	about map[string][]string
}

func (s *sentences) note(order, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about[order] = append(s.about[order], text)
	return nil
}

func (s *sentences) Confirm(_ context.Context, key string, o OrderCreated) error {
	return s.note(o.OrderID, key+" "+o.Description)
}

func (s *sentences) Changed(_ context.Context, key string, o OrderChanged) error {
	return s.note(o.OrderID, key+" "+o.Description)
}

// The stream may reorder, repeat and lose change records: every customer hears of the order first, and then of each change, once, in order.
func TestChangesAreToldInOrder(t *testing.T) {
	quiet(t)
	mails := &sentences{about: map[string][]string{}}
	cloud, api, letters, _ := mapped(t, mails)
	require.NoError(t, cloud.SetFaults(
		outboxtest.Fault{Kind: outboxtest.DropRecord, Table: local.EventsTable, Probability: 0.3, Calls: []int{1}}, // that of the first order
		outboxtest.Fault{Kind: outboxtest.ReorderRecord, Table: local.EventsTable, Probability: 0.3},
		outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Table: local.EventsTable, Probability: 0.3}))
	want := map[string][]string{}
	for range 5 {
		id := someOrder(t, api)
		want[id] = []string{id + "#1 0"}
	}
	for n := 1; n <= 4; n++ {
		if n == 4 { // the last event of an order must arrive, so that somebody looks for those before it
			require.NoError(t, cloud.Drain(t.Context()))
			require.NotZero(t, cloud.Struck()[outboxtest.DropRecord])
			cloud.StopFaults()
		}
		for id := range want {
			status, answer := change(t, api, id, fmt.Sprint(n))
			require.Equal(t, http.StatusOK, status, answer)
			require.JSONEq(t, fmt.Sprintf(`{"orderId":%q,"version":%d,"description":"%d"}`, id, n+1, n), answer)
			want[id] = append(want[id], fmt.Sprintf("%s#%d %d", id, n+1, n))
		}
	}
	require.NoError(t, cloud.Drain(t.Context()))
	require.Empty(t, deadLetters(t, letters))
	mails.mu.Lock()
	defer mails.mu.Unlock()
	require.Equal(t, want, mails.about)
}

// Of two changes at once one is first, and the other one reads again: each has an event of its own, with a version of its own. Every answer
// names the version that it has made.
func TestChangesAtTheSameTimeAreAllMade(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 4)
	id := someOrder(t, apis[0])
	var changes sync.WaitGroup
	for i := range 8 {
		changes.Go(func() {
			status, answer := change(t, apis[i%len(apis)], id, fmt.Sprint("change ", i))
			for n := 0; status == http.StatusServiceUnavailable && n < 100; n++ { // transactions that met: a client tries again
				status, answer = change(t, apis[i%len(apis)], id, fmt.Sprint("change ", i))
			}
			if status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	changes.Wait()
	requireItems(t, cloud, local.EventsTable, 9)
	w := httptest.NewRecorder()
	apis[0].ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/"+id, nil))
	require.Contains(t, w.Body.String(), `"version":9`)
}

// A change whose answer is lost is made once, however often it is repeated, until another change comes. From then on it is one more change.
func TestARepeatedChangeIsOneChange(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 2)
	id := someOrder(t, apis[0])
	require.NoError(t, cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "TransactWriteItems", Probability: 1}))
	status, answer := change(t, apis[0], id, "tea")
	require.Equal(t, http.StatusServiceUnavailable, status, answer)
	require.Contains(t, answer, "it is not known whether order "+id+" was changed: look it up before you repeat it")
	cloud.StopFaults()
	for _, c := range []struct {
		description string
		version     int64
	}{{"tea", 2}, {"tea", 2}, {"milk", 3}, {"milk", 3}, {"tea", 4}} {
		status, answer = change(t, apis[1], id, c.description)
		require.Equal(t, http.StatusOK, status, answer)
		require.JSONEq(t, fmt.Sprintf(`{"orderId":%q,"version":%d,"description":%q}`, id, c.version, c.description), answer)
		requireItems(t, cloud, local.EventsTable, c.version)
	}
}

func TestBadChangesAreRefused(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	api := instances(t, cloud, 1)[0]
	id := someOrder(t, api)
	send := func(id, body string) (int, string) {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders/"+id+"/changes", strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		id, body string
		status   int
		reason   string
	}{
		{id, ``, http.StatusBadRequest, "the body is empty"},
		{id, `{}`, http.StatusBadRequest, "the description is empty"},
		{id, `{"description":"a","email":"a@example.com"}`, http.StatusBadRequest, `unknown field`},
		{id, `{"description":"caf` + "\uFFFD" + `"}`, http.StatusBadRequest, "a character was lost"},
		{id, `{"description":"` + strings.Repeat("x", maxDescription+1) + `"}`, http.StatusBadRequest, "at most 1000 are allowed"},
		{id, `{"description":"` + strings.Repeat("x", maxBody) + `"}`, http.StatusRequestEntityTooLarge, "the body is larger than 65536 bytes"},
		{"1", `{"description":"a"}`, http.StatusNotFound, "there is no such order"},
		{"01M8FY4G5DV22E5Q3FQK1WSBDZ", `{"description":"a"}`, http.StatusNotFound, "there is no such order"},
	} {
		status, answer := send(c.id, c.body)
		require.Equal(t, c.status, status, "%s %.40s", c.id, c.body)
		require.Contains(t, answer, c.reason, "%s %.40s", c.id, c.body)
	}
	requireItems(t, cloud, local.EventsTable, 1)

	// A row that this service has not written is left alone.
	_, err := cloud.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &local.OrdersTable, Item: map[string]types.AttributeValue{
		"orderId": &types.AttributeValueMemberS{Value: "01M8FY4G5DV22E5Q3FQK1WSBDZ"}}})
	require.NoError(t, err)
	status, answer := send("01M8FY4G5DV22E5Q3FQK1WSBDZ", `{"description":"a"}`)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, answer, "the order was not changed")
	_, err = cloud.Cut("DynamoDB")
	require.NoError(t, err)
	status, answer = send(id, `{"description":"a"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, answer, "the order cannot be read at the moment")
}
