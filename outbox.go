// Package outbox is a transactional outbox on DynamoDB.
package outbox
