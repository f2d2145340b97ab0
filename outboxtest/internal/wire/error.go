// Package wire speaks the AWS JSON protocols (1.0 and 1.1) from the service's side: reading a
// bounded request, finding the operation, binding the body to a typed input with the service's
// own complaints, and writing results and errors the way AWS does.
//
// It knows nothing about any service: names, prefixes and inputs are the caller's.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Error codes that the AWS front end itself answers with, whatever the service.
const (
	CodeValidation       = "ValidationException"
	CodeSerialization    = "SerializationException"
	CodeUnknownOperation = "UnknownOperationException"
	CodeInternal         = "InternalServerError"
	CodeTooLarge         = "RequestEntityTooLargeException"
	// CodeTransactionCanceled is DynamoDB's own, but the front end writes it in its own way.
	CodeTransactionCanceled = "TransactionCanceledException"
)

// Error is a failed operation as the client will see it.
type Error struct {
	// Code is the short error type, e.g. "ResourceNotFoundException".
	Code string
	// Message is AWS's text.
	Message string
	// Status is the HTTP status; 0 means 400.
	Status int
	// Counted marks a validation fault of the sort that writes of a single item report with
	// "1 validation error detected: " in front, and every other operation without.
	Counted bool
	// Older is the text of the operations that AWS has left with its older validation, if they word
	// it in another way.
	Older string
	// Fields are extra members of the error document, e.g. CancellationReasons or Item.
	Fields map[string]any
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// HTTPStatus is the status to answer with.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// Errorf makes an Error with a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Validation makes a ValidationException.
func Validation(message string) *Error {
	return &Error{Code: CodeValidation, Message: message}
}

// Validationf makes a ValidationException with a formatted message.
func Validationf(format string, args ...any) *Error {
	return Validation(fmt.Sprintf(format, args...))
}

// CountedValidation makes a ValidationException that is Counted.
func CountedValidation(message string) *Error {
	return &Error{Code: CodeValidation, Message: message, Counted: true}
}

// Serialization makes a SerializationException; the message may be empty, as AWS's is for a body
// that is not JSON.
func Serialization(message string) *Error {
	return &Error{Code: CodeSerialization, Message: message}
}

// UnknownOperation is the answer to an operation that is not emulated. AWS's own has no message; ours
// says what was asked for, since most of what gets here is there on AWS.
func UnknownOperation(what string) *Error {
	return Errorf(CodeUnknownOperation, "outboxtest does not emulate %s", what)
}

// AsError finds the Error in err, or makes one: an error that is none of ours is an internal one.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Status: http.StatusInternalServerError}
}

// document is the JSON object of the error, with prefix in front of codes that belong to the service.
func (e *Error) document(prefix string) map[string]any {
	doc := make(map[string]any, len(e.Fields)+2)
	for k, v := range e.Fields {
		doc[k] = v
	}
	messageKey := "message"
	switch e.Code {
	case CodeValidation:
		prefix = "com.amazon.coral.validate#"
	case CodeSerialization:
		// The serializer capitalises the member; SDKs accept both.
		prefix, messageKey = "com.amazon.coral.service#", "Message"
	case CodeTransactionCanceled:
		messageKey = "Message"
	case CodeUnknownOperation, CodeTooLarge:
		prefix = "com.amazon.coral.service#"
	}
	doc["__type"] = prefix + e.Code
	if e.Message != "" {
		doc[messageKey] = e.Message
	}
	return doc
}

// MarshalJSON renders the error without a service prefix, for logs.
func (e *Error) MarshalJSON() ([]byte, error) { return json.Marshal(e.document("")) }
