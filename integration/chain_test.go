package integration

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The chain of three services, as a program of its own, on the tables and streams of each server that has them: while couriers deliver
// records twice and out of order, answers are lost and the services' workers are killed, every order gets exactly one payment, one
// shipment and one label. The program judges that itself, and ends with an error if it is not so.
func TestChain(t *testing.T) {
	binary := buildExample(t, "chain")
	for _, s := range servers(t) {
		if s.endpoint == "" || !slices.Contains(s.offers, hop) {
			continue // in process there is no way for another program
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			chain := exec.CommandContext(ctx, binary, "-aws", "-orders", "40", "-storm", "5s")
			chain.Env = localEnvironment(s.endpoint)
			var out, log bytes.Buffer
			chain.Stdout, chain.Stderr = &out, &log
			err := chain.Run()
			t.Logf("on %s:\n%s", s.name, out.String())
			require.NoErrorf(t, err, "%s", log.String())
			count := func(what string) string {
				found := regexp.MustCompile(`(?m)^ *([0-9]+) ` + what).FindStringSubmatch(out.String())
				require.NotNilf(t, found, "%s", what)
				return found[1]
			}
			for _, what := range []string{"orders placed", "payments", "shipments", "labels printed"} {
				require.Equal(t, "40", count(what), what)
			}
			for _, what := range []string{"duplicates suppressed", "processes killed"} {
				require.NotEqual(t, "0", count(what), what)
			}
			summaries.note(fmt.Sprintf("chain of services on %s: %s", s.name, oneLine(out.String())))
		})
	}
}

func oneLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
