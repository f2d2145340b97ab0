//go:build !unix

package fastget

import "time"

func cpu() time.Duration { return 0 }
