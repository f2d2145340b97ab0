package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// released is a version that nobody will release.
const released = "v0.987.0"

// The release that release/tag makes of the files here, committed or not, does what the README says: its zips, as a proxy would serve them,
// are added to an empty module by go get, compile the README's code and pass its tests, and are installed as a command that knows its
// version.
func TestAReleaseCanBeInstalled(t *testing.T) {
	slow(t)
	r := cloned(t)
	r.run(t, "release/tag", released)
	require.Equal(t, []string{"cmd/outbox/" + released, released}, r.tags(t))
	require.Contains(t, r.run(t, "git", "show", "main:cmd/outbox/go.mod"), "replace "+root+" => ../../", "main keeps its replace")

	user := newRepository(t, map[string]string{"README.md": "Nothing yet.\n"})
	user.env = append(user.env, proxied(t, r)...)
	user.run(t, "go", "mod", "init", "shop.example/shop")
	user.run(t, "go", "get", root)
	require.Contains(t, user.run(t, "go", "list", "-m", root), root+" "+released)

	code, err := filepath.Glob("../examples/readme/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, code)
	for _, file := range code {
		user.write(t, map[string]string{filepath.Base(file): text(t, file)})
	}
	// The latest versions of other modules are not ours to test: those of the examples are.
	others, err := modfile.ParseLax("go.mod", []byte(text(t, "../examples/go.mod")), nil)
	require.NoError(t, err)
	for _, require := range others.Require {
		if require.Mod.Path != root {
			user.run(t, "go", "mod", "edit", "-require="+require.Mod.String())
		}
	}
	user.run(t, "go", "mod", "tidy")
	user.run(t, "go", "build", "./...")
	require.Contains(t, user.run(t, "go", "test", "-count=1", "./..."), "ok")

	for _, version := range []string{released, "latest"} {
		bin := t.TempDir()
		user.env = append(user.env, "GOBIN="+bin)
		user.run(t, "go", "install", root+"/cmd/outbox@"+version)
		require.Equal(t, "outbox version "+released+"\n", user.run(t, filepath.Join(bin, "outbox"), "--version"))
	}

	// go install looks at no go.sum. Who builds the tag itself does.
	r.env = append(r.env, user.env...)
	r.run(t, "git", "checkout", "--quiet", "cmd/outbox/"+released)
	r.run(t, "go", "-C", "cmd/outbox", "build", "-mod=readonly", "-o", os.DevNull, ".")
	r.run(t, "go", "-C", "cmd/outbox", "mod", "verify")
}

// cloned returns a repository with the files of this one, and an entry for the release.
func cloned(t *testing.T) *repository {
	t.Helper()
	here := &repository{dir: "..", env: os.Environ()}
	files := map[string]string{}
	for _, name := range strings.Split(here.run(t, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		if info, err := os.Lstat(filepath.Join("..", name)); err == nil && info.Mode().IsRegular() {
			files[name] = text(t, filepath.Join("..", name))
		}
	}
	files["CHANGELOG.md"] += "\n## " + released + "\n\n- All of it.\n"
	return newRepository(t, files)
}

// proxied serves the tags of a repository to the go command from files, and returns the environment for it. Its module cache is one of its
// own, so that the release does not stay in the user's. Other modules come out of the user's as far as it has them.
func proxied(t *testing.T, r *repository) []string {
	t.Helper()
	proxy := t.TempDir()
	for _, tag := range r.tags(t) {
		directory := strings.TrimSuffix(strings.TrimSuffix(tag, released), "/")
		m := module.Version{Path: strings.TrimSuffix(root+"/"+directory, "/"), Version: released}
		served := filepath.Join(proxy, m.Path, "@v")
		require.NoError(t, os.MkdirAll(served, 0o755))

		file, err := os.Create(filepath.Join(served, released+".zip"))
		require.NoError(t, err)
		require.NoError(t, zip.CreateFromVCS(file, m, r.dir, tag, directory))
		require.NoError(t, file.Close())
		_, err = zip.CheckZip(m, file.Name())
		require.NoError(t, err)

		info, err := json.Marshal(map[string]any{"Version": released, "Time": time.Now()})
		require.NoError(t, err)
		goMod := r.run(t, "git", "show", tag+":"+strings.TrimPrefix(directory+"/go.mod", "/"))
		for name, content := range map[string]string{"list": released + "\n", released + ".mod": goMod, released + ".info": string(info)} {
			require.NoError(t, os.WriteFile(filepath.Join(served, name), []byte(content), 0o644))
		}
	}
	cache, proxies := strings.TrimSpace(r.run(t, "go", "env", "GOMODCACHE")), strings.TrimSpace(r.run(t, "go", "env", "GOPROXY"))
	return []string{
		"GOPROXY=file://" + proxy + ",file://" + cache + "/cache/download," + proxies,
		"GOMODCACHE=" + t.TempDir(),
		"GOFLAGS=-modcacherw -trimpath", // with -trimpath the build cache knows a package in whichever module cache
		"GOSUMDB=off",                   // it does not know our release; the sums of other modules are held against go.sum where they are used
		"GOPRIVATE=", "GONOPROXY=", "GONOSUMDB=",
		"GOWORK=off",
	}
}
