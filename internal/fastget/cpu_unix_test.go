//go:build unix

package fastget

import (
	"syscall"
	"time"
)

// cpu returns the CPU time of the process. On a shared machine the time on the clock says little.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
