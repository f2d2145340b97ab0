package dynamo

import (
	"maps"
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type deleteTableInput struct{ tableNameOnly }

type deleteTableOutput struct{ TableDescription *tableDescription }

func (db *DB) deleteTable(in *deleteTableInput) (*deleteTableOutput, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.forAdmin(*in.TableName)
	if err != nil {
		return nil, err
	}
	if t.protected {
		return nil, wire.Validation("Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")
	}
	delete(db.tables, t.name)
	d := db.describe(t)
	// The table is gone at once, but AWS's answer says that it is going, and no more about its keys
	// and indexes.
	d.TableStatus, d.AttributeDefinitions, d.KeySchema, d.CreationDateTime = "DELETING", nil, nil, nil
	d.GlobalSecondaryIndexes, d.LocalSecondaryIndexes = nil, nil
	return &deleteTableOutput{d}, nil
}

type listTablesInput struct {
	ExclusiveStartTableName *string `wire:"name,min=3,max=255"`
	Limit                   *int32  `wire:"min=1,max=100"`
}

type listTablesOutput struct {
	TableNames             []string
	LastEvaluatedTableName string `json:",omitempty"`
}

// maxTables is how many names one answer holds.
const maxTables = 100

func (db *DB) listTables(in *listTablesInput) (*listTablesOutput, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	limit := maxTables
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	out := &listTablesOutput{TableNames: []string{}}
	for _, name := range slices.Sorted(maps.Keys(db.tables)) {
		if name <= str(in.ExclusiveStartTableName) {
			continue
		}
		if len(out.TableNames) == limit {
			out.LastEvaluatedTableName = out.TableNames[limit-1]
			break
		}
		out.TableNames = append(out.TableNames, name)
	}
	return out, nil
}
