package outboxtest

import (
	"context"
	"encoding/json"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/streams"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// tables asks DynamoDB, by its own API, which tables have or had a stream.
func (s *Server) tables(ctx context.Context) []streams.Table {
	var out []streams.Table
	after := ""
	for {
		var page struct {
			TableNames             []string
			LastEvaluatedTableName string
		}
		request := map[string]any{}
		if after != "" {
			request["ExclusiveStartTableName"] = after
		}
		if !s.ask(ctx, "ListTables", request, &page) {
			return out
		}
		for _, name := range page.TableNames {
			var described struct {
				Table struct {
					KeySchema           []streams.KeySchemaElement
					LatestStreamArn     string
					StreamSpecification struct {
						StreamEnabled  bool
						StreamViewType string
					}
				}
			}
			// A table that was deleted since it was listed is left out.
			if !s.ask(ctx, "DescribeTable", map[string]any{"TableName": name}, &described) {
				continue
			}
			t := described.Table
			out = append(out, streams.Table{Name: name, StreamARN: t.LatestStreamArn, Enabled: t.StreamSpecification.StreamEnabled,
				View: t.StreamSpecification.StreamViewType, Keys: t.KeySchema})
		}
		if after = page.LastEvaluatedTableName; after == "" {
			return out
		}
	}
}

// ask makes one request to DynamoDB inside the process, past the faults.
func (s *Server) ask(ctx context.Context, operation string, request, answer any) bool {
	body, err := wire.Marshal(request)
	if err != nil {
		return false
	}
	result, err := s.db.Do(ctx, operation, body)
	if err != nil {
		return false
	}
	body, err = wire.Marshal(result)
	return err == nil && json.Unmarshal(body, answer) == nil
}
