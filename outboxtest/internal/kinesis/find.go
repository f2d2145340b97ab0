package kinesis

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
)

func (e *Engine) arn(name string) string {
	return "arn:aws:kinesis:" + e.config.Region + ":" + e.config.Account + ":stream/" + name
}

func (e *Engine) byARN(arn string) *stream {
	_, name, found := strings.Cut(arn, ":stream/")
	if s := e.streams[name]; found && s != nil && s.arn == arn {
		return s
	}
	return nil
}

func (e *Engine) noStream(name string) error {
	return notFound("Stream %s under account %s not found.", name, e.config.Account)
}

// target returns the name of the stream that a request is about: by its name,
// its ARN or both.
func (e *Engine) target(in shape.Values) (string, error) {
	name, arn := in.String("StreamName"), in.String("StreamARN")
	if arn == "" {
		if name == "" {
			return "", invalid("Either StreamName or StreamARN should be provided.")
		}
		return name, nil
	}
	_, inARN, _ := strings.Cut(arn, ":stream/")
	if name != "" && name != inARN {
		return "", invalid("StreamName %s does not match StreamARN %s.", name, arn)
	}
	if arn != e.arn(inARN) {
		account := e.config.Account
		if parts := strings.Split(arn, ":"); len(parts) > 4 {
			account = parts[4]
		}
		return "", notFound("Stream %s under account %s not found.", inARN, account)
	}
	return inARN, nil
}

// find returns the stream that a request is about, in whatever status.
func (e *Engine) find(in shape.Values) (*stream, error) {
	name, err := e.target(in)
	if err != nil {
		return nil, err
	}
	if s := e.streams[name]; s != nil {
		return s, nil
	}
	return nil, e.noStream(name)
}

// findActive returns the stream of a request that may only be made while no
// other change is under way.
func (e *Engine) findActive(in shape.Values) (*stream, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	if s.status != active {
		return nil, fail("ResourceInUseException", "Stream %s under account %s not ACTIVE, instead in state %s",
			s.name, e.config.Account, s.status)
	}
	return s, nil
}

// findShard returns the stream and the shard of a request to read. The service
// accepts a shard's number in place of its id.
func (e *Engine) findShard(in shape.Values, given string) (*stream, *shard, error) {
	name, err := e.target(in)
	if err != nil {
		return nil, nil, err
	}
	id, ok := canonicalShardID(given)
	if !ok {
		return nil, nil, e.noShard(given, name)
	}
	s := e.streams[name]
	if s == nil || s.shard(id) == nil {
		return nil, nil, notFound("Shard %s in stream %s under account %s does not exist", id, name, e.config.Account)
	}
	return s, s.shard(id), nil
}

func (e *Engine) noShard(id, name string) error {
	return notFound("Could not find shard %s in stream %s under account %s.", id, name, e.config.Account)
}

func canonicalShardID(given string) (string, bool) {
	digits := given
	if _, rest, found := strings.Cut(given, "-"); found {
		digits = rest
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<31-1 || strings.HasPrefix(digits, "+") {
		return "", false
	}
	return shardID(int(n)), true
}

// Resolve returns the ARN of the stream with that name or ARN; false if there
// is none.
func (e *Engine) Resolve(nameOrARN string) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.streams[nameOrARN]; s != nil {
		return s.arn, true
	}
	if s := e.byARN(nameOrARN); s != nil {
		return s.arn, true
	}
	return "", false
}

// Status returns the status of a stream, "" if there is none.
func (e *Engine) Status(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	if s := e.streams[name]; s != nil {
		return string(s.status)
	}
	return ""
}

// Exists tells whether there is a stream with that ARN.
func (e *Engine) Exists(streamARN string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	return e.byARN(streamARN) != nil
}

// tagPattern is what tag keys and values are made of.
func tagPattern() *regexp.Regexp {
	return regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@%]*$`)
}
