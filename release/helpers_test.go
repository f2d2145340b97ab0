// Package release has what stands between main and those who use the package: release/tag, the stored API, the look for vulnerabilities,
// and here the tests of all three.
package release

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the path of the root module.
const root = "github.com/seed-1b628d3f/outbox"

// repository is one of a test's own, with the environment that its commands see.
type repository struct {
	dir string
	env []string
}

// newRepository commits files, by path, on main. Neither the user's configuration of git nor that of go counts.
func newRepository(t *testing.T, files map[string]string) *repository {
	t.Helper()
	r := &repository{dir: t.TempDir(), env: append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GOENV=off", "GOWORK=")}
	r.run(t, "git", "init", "--quiet", "--initial-branch=main")
	r.run(t, "git", "config", "user.name", "a test")
	r.run(t, "git", "config", "user.email", "test@localhost")
	r.commit(t, files)
	return r
}

// write writes files, by path, and makes scripts executable.
func (r *repository) write(t *testing.T, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(r.dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasPrefix(files[name], "#!") {
			mode = 0o755
		}
		require.NoError(t, os.WriteFile(path, []byte(files[name]), mode))
	}
}

// commit writes files and commits everything.
func (r *repository) commit(t *testing.T, files map[string]string) {
	t.Helper()
	r.write(t, files)
	r.run(t, "git", "add", "--all")
	r.run(t, "git", "commit", "--quiet", "-m", "A change")
}

// try runs a command in the repository, and returns its exit code and all that it printed.
func (r *repository) try(t *testing.T, name string, args ...string) (code int, printed string) {
	t.Helper()
	if strings.HasPrefix(name, "release/") {
		name = filepath.Join(r.dir, name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	require.NoErrorf(t, err, "%s %v printed:\n%s", name, args, out)
	return 0, string(out)
}

// run is try for a command that must not fail.
func (r *repository) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	code, printed := r.try(t, name, args...)
	require.Zerof(t, code, "%s %v printed:\n%s", name, args, printed)
	return printed
}

// tags returns all tags, in the order of their names.
func (r *repository) tags(t *testing.T) []string {
	t.Helper()
	return strings.Fields(r.run(t, "git", "tag"))
}

// text is a file of this module, by its path.
func text(t *testing.T, name string) string {
	t.Helper()
	read, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(read)
}

// slow leaves a test to CI: it takes minutes when the build cache is empty, and go test does not notice when a file outside of this module
// changes.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("OUTBOX_RELEASE") == "" {
		t.Skip("OUTBOX_RELEASE is not set; .ci/run sets it")
	}
}
