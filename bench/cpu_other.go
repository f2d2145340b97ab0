//go:build !unix

package main

import "time"

var start = time.Now()

// cpuTime is the clock where there is no cheap way to the CPU time of a process.
func cpuTime() time.Duration { return time.Since(start) }
