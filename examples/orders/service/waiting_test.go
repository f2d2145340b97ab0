package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/fakeses"
)

// Every redrive counts the letters that wait, until the last one is gone: an alarm on the count lasts as long as they do. What cannot be
// counted is not told, and the invocation fails.
func TestTheCountOfWaitingLettersLastsAsLongAsTheyDo(t *testing.T) {
	quiet(t)
	mailer, fake := fakeSES(t)
	var refused atomic.Bool
	refused.Store(true)
	fake.Refuse(func(fakeses.Mail) (int, string) {
		if refused.Load() {
			return http.StatusBadRequest, "MessageRejected"
		}
		return 0, ""
	})
	cloud, api, letters, _ := mapped(t, mailer)
	inbox, err := outbox.NewInbox(cloud.DynamoDB, local.InboxTable, Group)
	require.NoError(t, err)
	lines := &bytes.Buffer{}
	redrive, err := NewRedrive(cloud.DynamoDB, local, mailer, lines)
	require.NoError(t, err)
	waiting := func() any {
		lines.Reset()
		_, err := redrive.Invoke(t.Context(), nil)
		require.NoError(t, err)
		return gauge(t, lines, WaitingMetric)
	}
	require.EqualValues(t, 0, waiting())
	for i := range 3 {
		placed(t, api, fmt.Sprintf("c%d@example.com", i))
	}
	require.NoError(t, cloud.Drain(t.Context()))
	for range 2 {
		require.EqualValues(t, 3, waiting())
	}
	_, err = letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	require.EqualValues(t, 3, waiting(), "they fail again")
	require.NoError(t, inbox.Discard(t.Context(), letters, deadLetters(t, letters)[0].ID))
	require.EqualValues(t, 2, waiting())
	refused.Store(false)
	_, err = letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
	require.NoError(t, err)
	require.EqualValues(t, 0, waiting())

	refused.Store(true)
	for i := range mostCounted + 1 {
		placed(t, api, fmt.Sprintf("d%d@example.com", i))
	}
	require.NoError(t, cloud.Drain(t.Context()))
	require.EqualValues(t, mostCounted, waiting(), "it counts to here")

	lines.Reset()
	_, err = cloud.Cut("DynamoDB")
	require.NoError(t, err)
	_, err = redrive.Invoke(t.Context(), nil)
	require.ErrorContains(t, err, "dead letter table letters")
	require.ErrorContains(t, redrive.count(t.Context()), "dead letter table letters")
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = redrive.Invoke(ctx, nil)
	require.NoError(t, err, "its time is over")
	require.Empty(t, lines.String())
}

// gauge is the value of a metric that a redrive has told once, for its own stack.
func gauge(t *testing.T, lines *bytes.Buffer, metric string) (value any) {
	for text := range bytes.Lines(lines.Bytes()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal(text, &line), "%s", lines)
		if line[metric] == nil {
			continue
		}
		require.Nil(t, value, "%s", lines)
		value = line[metric]
		require.Equal(t, []any{map[string]any{
			"Namespace": MetricNamespace, "Dimensions": []any{[]any{StackDimension}},
			"Metrics": []any{map[string]any{"Name": metric, "Unit": "Count"}},
		}}, line["_aws"].(map[string]any)["CloudWatchMetrics"])
		require.Equal(t, local.Stack, line[StackDimension])
	}
	return value
}
