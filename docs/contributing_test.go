package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	quoted     = regexp.MustCompile("`([^`\n]+)`")
	target     = regexp.MustCompile(`^make ([a-z-]+)$`)
	variable   = regexp.MustCompile(`^([A-Z]+(?:_[A-Z]+)+)(=.*)?$`)
	identifier = regexp.MustCompile(`^[A-Za-z]+$`)
)

// Whatever CONTRIBUTING names is there: targets of the Makefile, variables, files, and identifiers.
func TestContributingNamesWhatIsThere(t *testing.T) {
	makefile, err := os.ReadFile(root + "Makefile")
	require.NoError(t, err)
	code := strings.Join(sources(t, ".go"), "\n")
	kinds := map[string]int{}
	for _, match := range quoted.FindAllStringSubmatch(pages(t)["CONTRIBUTING.md"], -1) {
		name := match[1]
		switch {
		case target.MatchString(name):
			kinds["target"]++
			require.Regexpf(t, `(?m)^`+target.FindStringSubmatch(name)[1]+`:.* ## `, string(makefile), "the Makefile has no target for %s, or no help for it", name)
		case variable.MatchString(name):
			kinds["variable"]++
			require.Containsf(t, code, `"`+variable.FindStringSubmatch(name)[1]+`"`, "nothing reads %s", name)
		case strings.Contains(name, "…") || strings.Contains(name, " "): // a pattern, or a command
		case strings.Contains(name, "/") || strings.HasSuffix(name, ".go"):
			kinds["file"]++
			files, err := filepath.Glob(root + name)
			require.NoError(t, err)
			require.NotEmptyf(t, files, "there is no %s", name)
		case identifier.MatchString(name):
			if _, err := os.Stat(root + name); err == nil {
				continue
			}
			kinds["identifier"]++
			require.Regexpf(t, `\b`+name+`\b`, code, "the code has no %s", name)
		}
	}
	for _, kind := range []string{"target", "variable", "file", "identifier"} {
		require.GreaterOrEqualf(t, kinds[kind], 5, "%ss that CONTRIBUTING names", kind)
	}
}
