package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the way to the root of the repository.
const root = "../"

// pages returns the pages of the documentation, by their path from the root: those in docs, and those that lie elsewhere.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(root + "docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	texts := map[string]string{}
	for _, name := range append(names, root+"README.md", root+"DESIGN.md", root+"CONTRIBUTING.md", root+"SECURITY.md", root+"CHANGELOG.md", root+"examples/orders/DEPLOY.md", root+"integration/README.md") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		texts[strings.TrimPrefix(filepath.ToSlash(name), root)] = string(text)
	}
	return texts
}
