package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// database writes a vulnerability database with one entry, and returns its URL: every version of the module is vulnerable if its function is
// called.
func database(t *testing.T, path, pkg, function string) string {
	t.Helper()
	dir := t.TempDir()
	entry, err := json.Marshal(map[string]any{
		"schema_version": "1.3.1", "id": "GO-2026-0001", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
		"summary": "A hole", "details": "A hole.",
		"affected": []any{map[string]any{
			"package":            map[string]any{"name": path, "ecosystem": "Go"},
			"ranges":             []any{map[string]any{"type": "SEMVER", "events": []any{map[string]any{"introduced": "0"}}}},
			"ecosystem_specific": map[string]any{"imports": []any{map[string]any{"path": pkg, "symbols": []any{function}}}},
		}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "GO-2026-0001.json"), entry, 0o644))
	return "file://" + dir
}

// Clean, a vulnerability, a database that cannot be reached, and a scan that fails are four things, and no two look the same.
func TestAVulnerabilityIsNoUnreachableDatabase(t *testing.T) {
	slow(t)
	const main = "package main\n\nimport \"path\"\n\nfunc main() { println(path.Clean(\"a\")) }\n"
	r := newRepository(t, map[string]string{
		"release/vulncheck":  text(t, "vulncheck"),
		".gitignore":         "/.ci/bin\n",
		"go.mod":             "module shop.example/shop\n\ngo 1.25.0\n",
		"shop.go":            "package shop\n",
		"cmd/outbox/go.mod":  "module shop.example/shop/cmd/outbox\n\ngo 1.25.0\n",
		"cmd/outbox/main.go": main,
	})
	// What .ci/run has installed serves here as well; release/vulncheck installs it if it is missing.
	bin, err := filepath.Abs("../.ci/bin")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(bin, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(r.dir, ".ci"), 0o755))
	require.NoError(t, os.Symlink(bin, filepath.Join(r.dir, ".ci/bin")))
	env := r.env
	try := func(extra ...string) (int, string) {
		r.env = append(env[:len(env):len(env)], extra...)
		return r.try(t, "release/vulncheck")
	}

	called, uncalled := "VULNDB="+database(t, "stdlib", "path", "Clean"), "VULNDB="+database(t, "stdlib", "path", "Base")
	code, printed := try(uncalled)
	require.Zero(t, code, printed)
	require.Contains(t, printed, ".: No vulnerabilities found")
	require.Contains(t, printed, "cmd/outbox: No vulnerabilities found")

	code, printed = try(called)
	require.Equal(t, 1, code, printed)
	require.Contains(t, printed, "GO-2026-0001")
	require.Contains(t, printed, "vulnerabilities, or a failure, in: cmd/outbox\n")

	// Nothing listens where the proxy is said to be.
	code, printed = try("VULNDB=https://vuln.go.dev", "HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "NO_PROXY=", "no_proxy=")
	require.Equal(t, 75, code, printed)
	require.Contains(t, printed, "NOT CHECKED for vulnerabilities: https://vuln.go.dev cannot be reached\n")
	require.NotContains(t, printed, "No vulnerabilities found")

	code, printed = try("VULNDB=file:///nowhere")
	require.Equal(t, 1, code, printed)
	require.NotContains(t, printed, "NOT CHECKED")

	r.write(t, map[string]string{"cmd/outbox/main.go": "package main\n\nfunc main() { gone() }\n"})
	code, printed = try(uncalled)
	require.Equal(t, 1, code, printed)
	require.Contains(t, printed, "undefined: gone")
	require.NotContains(t, printed, "NOT CHECKED")
}
