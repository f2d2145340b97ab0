package kinesis

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// iteratorVersion opens every iterator, as it does those of the real service.
const iteratorVersion = "\x00\x00\x00\x00\x00\x00\x00\x01"

// minIteratorBytes is the length below which no real iterator is.
const minIteratorBytes = 152

// iterator makes an opaque token of a position. It carries the moment it was
// issued, from which its five minutes are counted.
func (e *Engine) iterator(s *stream, sh *shard, position int64, now time.Time) string {
	body := strings.Join([]string{
		strconv.FormatInt(now.UnixMilli(), 10), s.name, strconv.FormatInt(s.incarnation, 10), sh.id, strconv.FormatInt(position, 10),
	}, "/")
	// As long as a real one: the ciphertext of a block cipher.
	size := len(iteratorVersion) + len(body) + len("/") + 4
	size = minIteratorBytes + (max(size-minIteratorBytes, 0)+15)/16*16
	body += "/"
	body += strings.Repeat("0", size-len(iteratorVersion)-4-len(body))
	raw := append([]byte(iteratorVersion), body...)
	raw = binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw))
	return base64.StdEncoding.EncodeToString(raw)
}

// openIterator finds what an iterator points to.
func (e *Engine) openIterator(token string, now time.Time) (*stream, *shard, int64, error) {
	bad := invalid("Invalid ShardIterator.")
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(raw) < minIteratorBytes || !bytes.HasPrefix(raw, []byte(iteratorVersion)) {
		return nil, nil, 0, bad
	}
	raw, sum := raw[:len(raw)-4], binary.BigEndian.Uint32(raw[len(raw)-4:])
	parts := strings.Split(string(raw[len(iteratorVersion):]), "/")
	if sum != crc32.ChecksumIEEE(raw) || len(parts) < 5 {
		return nil, nil, 0, bad
	}
	var numbers [3]int64
	for i, part := range []string{parts[0], parts[2], parts[4]} {
		if numbers[i], err = strconv.ParseInt(part, 10, 64); err != nil {
			return nil, nil, 0, bad
		}
	}
	issued, incarnation, position := time.UnixMilli(numbers[0]), numbers[1], numbers[2]
	if now.Sub(issued) > iteratorLifetime {
		const layout = "Mon Jan 02 15:04:05 UTC 2006"
		return nil, nil, 0, fail("ExpiredIteratorException",
			"Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.",
			issued.UTC().Format(layout), now.UTC().Format(layout), iteratorLifetime.Milliseconds())
	}
	name, id := parts[1], parts[3]
	s := e.streams[name]
	if s == nil || s.incarnation != incarnation || s.shard(id) == nil {
		return nil, nil, 0, notFound("Shard %s in stream %s under account %s does not exist", id, name, e.config.Account)
	}
	return s, s.shard(id), position, nil
}
