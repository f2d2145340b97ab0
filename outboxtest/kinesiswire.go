package outboxtest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// kinesisSuccess writes a result as Kinesis does: an operation without a result
// answers with an empty body.
func kinesisSuccess(w http.ResponseWriter, result any) {
	var body []byte
	if result != nil {
		var err error
		if body, err = wire.Marshal(result); err != nil {
			kinesisFailure(w, err)
			return
		}
	}
	kinesisAnswer(w, http.StatusOK, body)
}

// kinesisFailure writes an error as Kinesis does: its types have no namespace.
func kinesisFailure(w http.ResponseWriter, err error) {
	e := wire.AsError(err)
	doc := map[string]any{"__type": e.Code}
	if e.Message != "" {
		doc["message"] = e.Message
		if e.Code == wire.CodeSerialization {
			delete(doc, "message")
			doc["Message"] = e.Message
		}
	}
	for k, v := range e.Fields {
		doc[k] = v
	}
	body, err := json.Marshal(doc)
	if err != nil {
		body = []byte(`{"__type":"InternalFailure"}`)
	}
	w.Header().Set("X-Amzn-Errortype", e.Code)
	kinesisAnswer(w, e.HTTPStatus(), body)
}

func kinesisAnswer(w http.ResponseWriter, status int, body []byte) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	var host [72]byte
	_, _ = rand.Read(host[:])
	h := w.Header()
	h.Set("Content-Type", wire.Kinesis().ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-Requestid", fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
	h.Set("X-Amz-Id-2", base64.StdEncoding.EncodeToString(host[:]))
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client is gone
}
