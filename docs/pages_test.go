// Package docs has the pages of the documentation, and here the tests of what they say. They are in the root module, since go test
// notices a changed file only within its own.
package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// sources returns the files of the repository whose names end in suffix.
func sources(t *testing.T, suffix string) (texts []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		text, err := os.ReadFile(path)
		texts = append(texts, string(text))
		return err
	}))
	return texts
}

// Every Go block of the pages stands, line by line, in a Go file of the repository, and so compiles.
func TestReadmeCodeIsCompiled(t *testing.T) {
	files := sources(t, ".go")
	for i := range files {
		files[i] = normal(files[i])
	}
	all, blocks := strings.Join(files, "\x00"), 0
	for page, text := range pages(t) {
		for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
			blocks++
			require.Truef(t, strings.Contains(all, normal(block[1])), "this block of %s is in no Go file:\n%s", page, block[1])
		}
	}
	require.Greater(t, blocks, 10)
}

// normal removes indentation and blank lines, which differ between a page and a function's body.
func normal(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// Every test that a page names exists.
func TestNamedTestsExist(t *testing.T) {
	tests, named := strings.Join(sources(t, "_test.go"), "\n"), 0
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1) {
			named++
			require.Containsf(t, tests, "func "+name[1]+"(", "%s names a test that does not exist", page)
		}
	}
	require.Greater(t, named, 100)
}

// link finds the targets of Markdown links and images, and of HTML's.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)

// Every relative link of the pages leads to a file of the repository, and every anchor to a heading of it.
func TestLinksLeadSomewhere(t *testing.T) {
	all, links, anchors := pages(t), 0, 0
	for page, text := range all {
		for _, found := range link.FindAllStringSubmatch(withoutCode(text), -1) {
			target, anchor, hasAnchor := strings.Cut(found[1]+found[2], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file := page
			if target != "" {
				file = path.Join(path.Dir(page), target)
			}
			_, err := os.Stat(root + file)
			require.NoErrorf(t, err, "%s links to %s", page, file)
			if !hasAnchor {
				continue
			}
			anchors++
			heading, err := os.ReadFile(root + file)
			require.NoError(t, err)
			require.Containsf(t, headings(string(heading)), anchor, "%s links to a heading that %s does not have", page, file)
		}
	}
	require.Greater(t, links, 20)
	require.Greater(t, anchors, 0)
}

// Every page in docs is linked from README.
func TestEveryPageIsLinked(t *testing.T) {
	all := pages(t)
	for page := range all {
		if strings.HasPrefix(page, "docs/") {
			require.Containsf(t, all["README.md"], "]("+page, "README has no link to %s", page)
		}
	}
}

// withoutCode removes fenced and indented blocks, and code within lines: a link there is none.
func withoutCode(text string) string {
	text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	text = regexp.MustCompile("(?m)^ {4}.*$").ReplaceAllString(text, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "code")
}

// headings returns the anchors that GitHub makes of the headings of a page.
func headings(text string) (anchors []string) {
	text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	seen := map[string]int{}
	for _, heading := range regexp.MustCompile(`(?m)^#{1,6} +(.*?) *$`).FindAllStringSubmatch(text, -1) {
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading[1], "$1")
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		if n := seen[anchor]; n > 0 {
			seen[anchor]++
			anchor += "-" + string(rune('0'+n))
		} else {
			seen[anchor] = 1
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}
