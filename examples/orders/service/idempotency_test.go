package service

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func post(t *testing.T, api http.Handler, key, body string) (int, string) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// instances are APIs with a client each, as in several processes.
func instances(t *testing.T, cloud *outboxtest.AWS, n int) (all []http.Handler) {
	for range n {
		api, err := NewAPI(dynamodb.NewFromConfig(cloud.Config()), local)
		require.NoError(t, err)
		all = append(all, api)
	}
	return all
}

// The first use of a key by many clients at once, through several instances: one of them places the order, and all get the same
// answer. Of two orders under one key, one wins, and the other is refused by every instance.
func TestTheFirstUseOfAKeyAtTheSameTime(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 4)
	for _, bodies := range [][]string{{`{"description":"two coffees"}`}, {`{"description":"tea"}`, `{"description":"water"}`}} {
		key := bodies[0]
		var mu sync.Mutex
		var wg sync.WaitGroup
		placed, refused := make(map[string]bool), 0
		start := make(chan struct{})
		for i := range 24 {
			wg.Go(func() {
				<-start
				status, answer := post(t, apis[i%len(apis)], key, bodies[i/4%len(bodies)])
				for n := 0; status == http.StatusServiceUnavailable && n < 20; n++ { // transactions that met: a client tries again
					status, answer = post(t, apis[i%len(apis)], key, bodies[i/4%len(bodies)])
				}
				mu.Lock()
				defer mu.Unlock()
				switch status {
				case http.StatusCreated:
					placed[answer] = true
				case http.StatusUnprocessableEntity:
					refused++
				default:
					t.Errorf("%d %s", status, answer)
				}
			})
		}
		close(start)
		wg.Wait()
		require.Len(t, placed, 1)
		require.Equal(t, 24-24/len(bodies), refused)
	}
	requireItems(t, cloud, local.OrdersTable, 2)
	requireItems(t, cloud, local.EventsTable, 2)
}

// The transaction commits and its answer is lost. The client is told that nobody knows; its repeat, which another instance gets, finds
// the order, and no second one.
func TestALostAnswerIsOneOrder(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 2)
	require.NoError(t, cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "TransactWriteItems", Probability: 1}))
	status, answer := post(t, apis[0], "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusServiceUnavailable, status, answer)
	id := regexp.MustCompile("[0-9A-Z]{26}").FindString(answer)
	require.Contains(t, answer, "it is not known whether order "+id+" was placed")
	requireItems(t, cloud, local.OrdersTable, 1)

	cloud.StopFaults()
	status, answer = post(t, apis[1], "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	require.JSONEq(t, `{"orderId":"`+id+`"}`, answer)
	requireItems(t, cloud, local.OrdersTable, 1)
	requireItems(t, cloud, local.EventsTable, 1)
}

// The order itself knows what was asked for when it was placed. So a key is known when the order's events have expired, and when the order has
// been changed since.
func TestAKeyIsKnownAsLongAsItsOrder(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	api := instances(t, cloud, 1)[0]
	status, placed := post(t, api, "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusCreated, status, placed)
	id := regexp.MustCompile("[0-9A-Z]{26}").FindString(placed)
	status, changed := change(t, api, id, "three coffees")
	require.Equal(t, http.StatusOK, status, changed)
	for n := range 2 {
		_, err := cloud.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &local.EventsTable,
			Key: map[string]types.AttributeValue{"eventId": &types.AttributeValueMemberS{Value: outbox.SequencedID(id, int64(n+1))}}}) // as time to live does
		require.NoError(t, err)
	}

	status, answer := post(t, api, "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	require.Equal(t, placed, answer)
	for _, other := range []string{`{"description":"three coffees"}`, `{"description":"two coffees","email":"a@example.com"}`} {
		status, answer = post(t, api, "k", other)
		require.Equal(t, http.StatusUnprocessableEntity, status, answer)
	}
	requireItems(t, cloud, local.EventsTable, 0)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/"+id, nil))
	require.JSONEq(t, `{"orderId":"`+id+`","version":2,"description":"three coffees"}`, w.Body.String())
}

// An order that somebody has removed from the table is not placed again while its event is there, and its key was not used for another one.
func TestTheKeyOfARemovedOrderIsRefused(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := outboxtest.Start(t)
		defer cloud.Close()
		setUp(t, cloud)
		api := instances(t, cloud, 1)[0]
		status, placed := post(t, api, "k", `{"description":"tea"}`)
		require.Equal(t, http.StatusCreated, status, placed)
		id := regexp.MustCompile("[0-9A-Z]{26}").FindString(placed)
		_, err := cloud.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &local.OrdersTable,
			Key: map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: id}}})
		require.NoError(t, err)
		for _, body := range []string{`{"description":"tea"}`, `{"description":"water"}`} {
			time.Sleep(time.Second) // at the same time, it would be the same transaction
			status, answer := post(t, api, "k", body)
			require.Equal(t, http.StatusGone, status, answer)
			require.JSONEq(t, `{"error":"the order of this idempotency key was removed: choose another key"}`, answer)
		}
		requireItems(t, cloud, local.OrdersTable, 0)
		requireItems(t, cloud, local.EventsTable, 1)
	})
}

// When the events of a removed order have expired as well, its key places it again. The inbox still knows the order's number: the event is a dead
// letter, and no mail is sent.
func TestAnOrderThatIsPlacedAgainAfterItsEventsIsADeadLetter(t *testing.T) {
	quiet(t)
	mails := &sentences{about: map[string][]string{}}
	cloud, api, letters, _ := mapped(t, mails)
	status, placed := post(t, api, "k", `{"description":"tea"}`)
	require.Equal(t, http.StatusCreated, status, placed)
	id := regexp.MustCompile("[0-9A-Z]{26}").FindString(placed)
	require.NoError(t, cloud.Drain(t.Context()))
	for table, key := range map[string][2]string{local.OrdersTable: {"orderId", id}, local.EventsTable: {"eventId", outbox.SequencedID(id, 1)}} {
		_, err := cloud.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table,
			Key: map[string]types.AttributeValue{key[0]: &types.AttributeValueMemberS{Value: key[1]}}})
		require.NoError(t, err)
	}
	time.Sleep(10 * time.Millisecond) // the new event has a later time
	status, answer := post(t, api, "k", `{"description":"tea"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	require.Equal(t, placed, answer)
	require.NoError(t, cloud.Drain(t.Context()))
	kept := deadLetters(t, letters)
	require.Len(t, kept, 1)
	require.Contains(t, kept[0].Error, "is the aggregate's id used again?")
	mails.mu.Lock()
	defer mails.mu.Unlock()
	require.Equal(t, map[string][]string{id: {id + "#1 tea"}}, mails.about)
}

// A key belongs to its caller, as IAM knows him: the sessions of a role are one caller, the users of an identity pool are many.
func TestAKeyBelongsToItsCaller(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	gateway := NewGateway(instances(t, cloud, 1)[0])
	place := func(iam string) (body string) {
		payload := `{"version":"2.0","rawPath":"/","headers":{"idempotency-key":"1"},"body":"{\"description\":\"tea\"}",
			"requestContext":{"http":{"method":"POST"},"authorizer":` + iam + `}}`
		answer, err := gateway.Invoke(t.Context(), []byte(payload))
		require.NoError(t, err)
		var response events.APIGatewayV2HTTPResponse
		require.NoError(t, json.Unmarshal(answer, &response))
		require.Equal(t, http.StatusCreated, response.StatusCode, response.Body)
		return response.Body
	}
	seen := map[string]bool{}
	for _, callers := range [][]string{
		{`null`, `{}`},
		{`{"iam":{"accountId":"1","userId":"AIDA1"}}`},
		{`{"iam":{"accountId":"2","userId":"AIDA1"}}`},
		{`{"iam":{"accountId":"1","userId":"AROA1:session-1"}}`, `{"iam":{"accountId":"1","userId":"AROA1:session-2"}}`},
		{`{"iam":{"accountId":"1","userId":"AROA2:session-1"}}`},
		{`{"iam":{"accountId":"1","userId":"1:federated-1"}}`},
		{`{"iam":{"accountId":"1","userId":"1:federated-2"}}`},
		{`{"iam":{"accountId":"1","userArn":"arn:aws:iam::1:user/a"}}`},
		{`{"iam":{"accountId":"1","userArn":"arn:aws:iam::1:user/b"}}`},
		{`{"iam":{"accountId":"1","callerId":"AIDA2"}}`},
		{`{"iam":{"accountId":"1","callerId":"AIDA3"}}`},
		{`{"iam":{"accountId":"1","userId":"AROA3:CognitoIdentityCredentials","cognitoIdentity":{"identityId":"us-east-1:a"}}}`},
		{`{"iam":{"accountId":"1","userId":"AROA3:CognitoIdentityCredentials","cognitoIdentity":{"identityId":"us-east-1:b"}}}`},
	} {
		first := place(callers[0])
		require.False(t, seen[first], "another caller's order: %s", callers[0])
		seen[first] = true
		for _, same := range callers[1:] {
			require.Equal(t, first, place(same), same)
		}
	}
	requireItems(t, cloud, local.OrdersTable, int64(len(seen)))
}

func TestAKeyThatIsNoneIsRefused(t *testing.T) {
	_, cloud := started(t)
	api := instances(t, cloud, 1)[0]
	for reason, keys := range map[string][]string{
		"the Idempotency-Key is empty: leave the header out, or choose a key": {""},
		"there is more than one Idempotency-Key":                              {"a", "b"},
		"the Idempotency-Key has 256 bytes, at most 255 are allowed":          {strings.Repeat("x", 256)},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"description":"tea"}`))
		r.Header["Idempotency-Key"] = keys
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.JSONEq(t, `{"error":"`+reason+`"}`, w.Body.String())
	}
	requireItems(t, cloud, local.OrdersTable, 0)
}
