package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testCase is one row of the table: something that AWS does.
type testCase struct {
	name  string
	needs []service
	run   func(*trial, clients)
}

// cases is the table, and the only one. Each case makes tables and streams of its own.
var cases = slices.Concat(
	itemCases, conditionCases, updateCases, queryCases, indexCases, batchCases, tableCases,
	transactionCases, transactionLimitCases, transactGetCases,
	hopCases, recordCases, writeCases, readCases, shardCases, streamCases,
	writerCases, consumerCases, orderCases,
)

// caseLimit bounds the time of one case: one that hangs has failed. It is long, because some cases move megabytes, and the race
// detector on a busy machine makes that slow.
const caseLimit = 4 * time.Minute

// deviations are the cases that a server does not pass.
type deviations map[string]deviation

// deviation is how a server differs from AWS in a case. The case is run all the same, and must fail.
type deviation struct {
	// why says what the server does instead.
	why string
	// shows is in the failure, so that a case that fails for another reason is noticed.
	shows string
}

func TestCases(t *testing.T) {
	requireTable(t)
	for _, s := range servers(t) {
		t.Run(s.name, func(t *testing.T) {
			requireOffers(t, s)
			requireCasesExist(t, s.name, s.deviates)
			r := &result{server: s}
			t.Cleanup(func() { summaries.add(r) }) // after the parallel cases
			for _, c := range cases {
				if !s.offersAll(c.needs) {
					r.add(&r.notOffered, c.name)
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					r.judge(t, c)
				})
			}
		})
	}
}

func (s server) offersAll(needs []service) bool {
	for _, n := range needs {
		if !slices.Contains(s.offers, n) {
			return false
		}
	}
	return true
}

// requireTable checks the table itself.
func requireTable(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range cases {
		require.Falsef(t, seen[c.name], "two cases are named %q", c.name)
		require.NotEmptyf(t, c.needs, "case %q needs no service", c.name)
		seen[c.name] = true
	}
	for name, k := range foreign {
		requireCasesExist(t, name, k.deviates)
	}
}

func requireCasesExist(t *testing.T, server string, d deviations) {
	t.Helper()
	for name, why := range d {
		require.Truef(t, slices.ContainsFunc(cases, func(c testCase) bool { return c.name == name }), "%s: there is no case %q", server, name)
		require.NotEmptyf(t, why.why, "%s: no reason for case %q", server, name)
		require.NotEmptyf(t, why.shows, "%s: no failure for case %q", server, name)
	}
}

// result is what came out for one server.
type result struct {
	server server

	mu                                   sync.Mutex
	passed, deviated, failed, notOffered []string
}

func (r *result) add(to *[]string, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, name)
}

// judge runs a case.
func (r *result) judge(t *testing.T, c testCase) {
	failure, panicked := attempt(t.Context(), caseLimit, func(tr *trial) { c.run(tr, newClients(r.server)) })
	var known *deviation
	if d, ok := r.server.deviates[c.name]; ok {
		known = &d
	}
	switch problem := verdict(failure, panicked, known); {
	case problem != "":
		t.Error(problem)
		r.add(&r.failed, c.name)
	case known != nil:
		t.Logf("known deviation: %s\n%s", known.why, failure)
		r.add(&r.deviated, c.name)
	default:
		r.add(&r.passed, c.name)
	}
}

// verdict says what is wrong with the end of a case; "" if it is as expected. A known deviation must still deviate, and in the
// known way.
func verdict(failure string, panicked bool, known *deviation) string {
	switch {
	case panicked || known == nil:
		return failure
	case failure == "":
		return "the server no longer deviates here: remove the case from its list"
	case !strings.Contains(failure, known.shows):
		return fmt.Sprintf("the server deviates, but not in the known way: there is no %q in\n%s", known.shows, failure)
	}
	return ""
}

// summaries collects the results until the tests have ended.
var summaries collector

type collector struct {
	mu      sync.Mutex
	results []*result
	notes   []string
}

func (c *collector) add(r *result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results = append(c.results, r)
}

// note adds a line to what is printed at the end.
func (c *collector) note(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, line)
}

// TestMain prints what came out, server by server.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, r := range summaries.results {
		fmt.Print(r)
	}
	for _, line := range summaries.notes {
		fmt.Println(line)
	}
	if os.Getenv(endpointsVariable) == "" && os.Getenv(sdkVariable) == "" {
		fmt.Printf("only outboxtest was tested: %s names no other server (README.md)\n", endpointsVariable)
	}
	os.Exit(code)
}

func (r *result) String() string {
	var b strings.Builder
	run := len(r.passed) + len(r.deviated) + len(r.failed)
	fmt.Fprintf(&b, "%s: %d of %d cases passed, %d known deviations, %d failed",
		r.server.name, len(r.passed), run, len(r.deviated), len(r.failed))
	if lacks := r.server.lacks(); len(lacks) > 0 {
		fmt.Fprintf(&b, "; not offered: %s (%d cases)", strings.Join(lacks, ", "), len(r.notOffered))
	}
	b.WriteByte('\n')
	slices.Sort(r.deviated)
	for _, name := range r.deviated {
		fmt.Fprintf(&b, "    deviates: %s: %s\n", name, r.server.deviates[name].why)
	}
	slices.Sort(r.failed)
	for _, name := range r.failed {
		fmt.Fprintf(&b, "    FAILED: %s\n", name)
	}
	return b.String()
}

func (s server) lacks() []string {
	var out []string
	for _, o := range allServices {
		if !slices.Contains(s.offers, o) {
			out = append(out, string(o))
		}
	}
	return out
}
