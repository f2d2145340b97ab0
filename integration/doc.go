// Package integration holds no code, only tests: one table of cases that runs against outboxtest and against servers that
// nobody here wrote. README.md says how.
package integration
