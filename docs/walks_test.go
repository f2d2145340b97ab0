package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var walkRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (`[^|]+`) \\|")

// TestAWalkNamesEachFileOnce: the walks of DESIGN.md name files and packages that exist, none of them twice, with functions that are in them.
func TestAWalkNamesEachFileOnce(t *testing.T) {
	_, section, found := strings.Cut(pages(t)["DESIGN.md"], "\n## The walk of a record\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	walks := strings.Split(section, "\n### ")[1:]
	require.Len(t, walks, 2)
	for _, walk := range walks {
		title, _, _ := strings.Cut(walk, "\n")
		rows := walkRow.FindAllStringSubmatch(walk, -1)
		require.Lenf(t, rows, strings.Count(walk, "\n| `"), "rows of %q that are read", title)
		require.NotEmpty(t, rows)
		named := map[string]bool{}
		for _, row := range rows {
			place := row[1]
			require.Falsef(t, named[place], "%q names %s twice", title, place)
			named[place] = true
			code := codeOf(t, place)
			for function := range strings.SplitSeq(row[2], ", ") {
				function = strings.Trim(function, "`")
				require.Regexpf(t, `(?m)^func (\([^)]*\) )?`+regexp.QuoteMeta(function)+`\(`, code, "%q: %s has no such function", title, place)
			}
		}
	}
}

// codeOf returns the source of a file or of a package.
func codeOf(t *testing.T, place string) string {
	files := []string{root + place}
	if !strings.HasSuffix(place, ".go") {
		var err error
		files, err = filepath.Glob(root + place + "/*.go")
		require.NoError(t, err)
		require.NotEmptyf(t, files, "%s has no Go files", place)
	}
	var code strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code.Write(text)
	}
	return code.String()
}
