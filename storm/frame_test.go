package storm

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// A bubble has one clock. A process whose clock is ahead of the services' is made by a change of frame: in its own frame the process is right,
// and the services and all other processes are late. So each point in time is moved on its way out of the process, and moved back on its way
// in. A process cannot tell this from a clock that is wrong. Points in time inside base64 and inside ids are left alone.

// near is how far from now a number may be and still be a point in time.
const near = 400 * 24 * time.Hour

// shifted moves every point in time in a JSON text by an amount: the skew for a request, the negative skew for an answer.
func shifted(text []byte, by time.Duration) []byte {
	if by == 0 || len(text) == 0 {
		return text
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return text
	}
	moved, err := json.Marshal(shift(value, by))
	if err != nil {
		return text
	}
	return moved
}

func shift(value any, by time.Duration) any {
	switch v := value.(type) {
	case map[string]any:
		for key, member := range v {
			if text, ok := member.(string); ok {
				if key == "N" {
					v[key] = shiftNumber(text, by)
				} else if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
					v[key] = at.Add(by).Format(time.RFC3339Nano)
				}
				continue
			}
			v[key] = shift(member, by)
		}
	case []any:
		for i := range v {
			v[i] = shift(v[i], by)
		}
	case json.Number:
		return json.Number(shiftNumber(v.String(), by))
	}
	return value
}

// shiftNumber moves a number that is a point in time in seconds, milliseconds, microseconds or nanoseconds, and leaves others alone.
func shiftNumber(text string, by time.Duration) string {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !isNear(time.Unix(int64(seconds), 0)) {
			return text
		}
		return strconv.FormatFloat(seconds+by.Seconds(), 'f', 3, 64)
	}
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond, time.Nanosecond} {
		perSecond := int64(time.Second / unit)
		if isNear(time.Unix(number/perSecond, 0)) {
			return strconv.FormatInt(number+int64(by/unit), 10)
		}
	}
	return text
}

func isNear(at time.Time) bool {
	distance := time.Since(at)
	return -near < distance && distance < near
}

// shiftDate moves the services' time in an answer's header.
func shiftDate(header http.Header, skew time.Duration) {
	if skew == 0 {
		return
	}
	if at, err := http.ParseTime(header.Get("Date")); err == nil {
		header.Set("Date", at.Add(-skew).UTC().Format(http.TimeFormat))
	}
}
