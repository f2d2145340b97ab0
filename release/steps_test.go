package release

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A step of .ci/run that names tests fails if a name matches nothing, wherever that is seen; what matches runs.
func TestAStepWhosePatternMatchesNothingFails(t *testing.T) {
	slow(t)
	const test = "package shop\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) { t.Log(\"ran\") }\n\nfunc TestSkipped(t *testing.T) { t.Skip() }\n"
	r := newRepository(t, map[string]string{
		".ci/named":          text(t, "../.ci/named"),
		".ci/fuzz":           text(t, "../.ci/fuzz"),
		"go.mod":             "module shop.example/shop\n\ngo 1.25.0\n",
		"shop_test.go":       test,
		"other/other.go":     "package other\n",
		"tests/some_test.go": "package tests\n\nimport \"testing\"\n\nfunc TestTwo(*testing.T) {}\n",
	})
	r.env = append(r.env, "FUZZ_SECONDS=1")
	for _, c := range []struct {
		command []string
		said    string
	}{
		{[]string{".ci/named", "", "."}, "which tests?"},
		{[]string{".ci/named", "  ", "."}, "which tests?"},
		{[]string{".ci/named"}, "which tests?"},
		{[]string{".ci/named", "TestNothing", "."}, "no test's name begins with TestNothing"},
		{[]string{".ci/named", "TestOne TestNothing", "."}, "no test's name begins with TestNothing"},
		{[]string{".ci/named", "TestOn$", "."}, "no test's name begins with TestOn$"},
		{[]string{".ci/named", "TestOne", ".", "./tests"}, "a package has none of the tests"},
		{[]string{".ci/named", "TestOne", ".", "./other"}, "a package has none of the tests"},
		{[]string{".ci/named", "TestOne", "./missing"}, "missing"},
		{[]string{".ci/named", "TestSkipped", "."}, "was skipped"},
		{[]string{".ci/fuzz"}, "0 fuzz targets ran"},
	} {
		code, printed := r.try(t, c.command[0], c.command[1:]...)
		require.NotZero(t, code, "%q: %s", c.command, printed)
		require.Contains(t, printed, c.said, c.command)
	}
	code, printed := r.try(t, ".ci/named", "TestOne", ".")
	require.Zero(t, code, printed)
	require.Contains(t, printed, "ran")

	const fuzz = "package other\n\nimport \"testing\"\n\nfunc FuzzIt(f *testing.F) { f.Fuzz(func(*testing.T, []byte) {}) }\n"
	r.commit(t, map[string]string{"other/fuzz_test.go": fuzz})
	code, printed = r.try(t, ".ci/fuzz")
	require.Zero(t, code, printed)
	require.Contains(t, printed, "1 fuzz targets ran")
	r.commit(t, map[string]string{"other/fuzz_test.go": "//go:build never\n\n" + fuzz})
	code, printed = r.try(t, ".ci/fuzz")
	require.NotZero(t, code, printed)
}
