package release

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// small returns a repository with the modules of this one, and nothing in them: it has the real release/tag, and needs no network.
func small(t *testing.T) *repository {
	t.Helper()
	r := newRepository(t, map[string]string{
		"go.mod":                 "module " + root + "\n\ngo 1.25.0\n",
		"outbox.go":              "package outbox\n\nconst Name = \"outbox\"\n",
		"cmd/outbox/go.mod":      "module " + root + "/cmd/outbox\n\ngo 1.25.0\n\nreplace " + root + " => ../../\n\nrequire " + root + " v0.0.0\n",
		"cmd/outbox/main.go":     "package main\n\nimport \"" + root + "\"\n\nfunc main() { println(outbox.Name) }\n",
		"bench/go.mod":           "module " + root + "/bench\n\ngo 1.25.0\n\nreplace " + root + " => ../\n\nrequire " + root + " v0.0.0\n",
		"CHANGELOG.md":           "# Changelog\n\n## Unreleased\n\n## v0.1.0 (a day)\n\n- All of it.\n\n## v0.0.9\n\n## v0.0.8\n\n- Less.\n",
		"release/api/outbox.txt": "const Name untyped string = \"outbox\"\n",
		"release/tag":            text(t, "tag"),
	})
	r.env = append(r.env, "GOPROXY=off", "GOFLAGS=", "GONOSUMDB=other.example")
	return r
}

func TestATagOfEachModuleThatIsReleased(t *testing.T) {
	r := small(t)
	head := r.run(t, "git", "rev-parse", "HEAD")
	printed := r.run(t, "release/tag", "v0.1.0")

	require.Equal(t, []string{"cmd/outbox/v0.1.0", "v0.1.0"}, r.tags(t))
	require.Contains(t, printed, "git push --atomic origin v0.1.0 cmd/outbox/v0.1.0\n")
	require.Equal(t, head, r.run(t, "git", "rev-parse", "v0.1.0^{commit}"))

	// The command's commit follows the root's, and changes what it requires and nothing else.
	require.Equal(t, head, r.run(t, "git", "rev-parse", "cmd/outbox/v0.1.0^{commit}~"))
	require.Equal(t, "cmd/outbox/go.mod\ncmd/outbox/go.sum\n", r.run(t, "git", "diff", "--name-only", "v0.1.0", "cmd/outbox/v0.1.0"))
	require.Equal(t, "module "+root+"/cmd/outbox\n\ngo 1.25.0\n\nrequire "+root+" v0.1.0\n", r.run(t, "git", "show", "cmd/outbox/v0.1.0:cmd/outbox/go.mod"))
	sums := strings.Split(strings.TrimSpace(r.run(t, "git", "show", "cmd/outbox/v0.1.0:cmd/outbox/go.sum")), "\n")
	require.Len(t, sums, 2)
	require.Regexp(t, "^"+root+" v0.1.0 h1:.{43}=$", sums[0])
	require.Regexp(t, "^"+root+" v0.1.0/go.mod h1:.{43}=$", sums[1])

	// Main is where it was, and nothing lies about.
	require.Equal(t, head, r.run(t, "git", "rev-parse", "main"))
	require.Equal(t, "* main\n", r.run(t, "git", "branch", "--all"))
	require.Empty(t, r.run(t, "git", "status", "--porcelain"))
	require.Equal(t, 1, strings.Count(r.run(t, "git", "worktree", "list"), "\n"))
}

func TestAVersionThatTheChangeAllows(t *testing.T) {
	changelog := func(version string) string { return "# Changelog\n\n## " + version + "\n\n- More.\n" }
	api := map[string]string{"more": "const Name untyped string = \"outbox\"\nvar ErrNew error\n", "less": "var ErrNew error\n"}
	tests := map[string]struct{ last, change, version, refused string }{
		"a patch that changes no API":            {"v0.1.0", "", "v0.1.1", ""},
		"a patch that adds to the API":           {"v0.1.0", "more", "v0.1.1", "the API has changed since v0.1.0"},
		"a patch that takes from the API":        {"v0.1.0", "less", "v0.1.1", "the API has changed since v0.1.0"},
		"a minor version that adds to the API":   {"v0.9.0", "more", "v0.10.0", ""},
		"a minor version that takes, before v1":  {"v0.1.0", "less", "v0.2.0", ""},
		"a minor version that takes, from v1 on": {"v1.1.0", "less", "v1.2.0", "the API has lost something since v1.1.0"},
		"the first major version may take":       {"v0.1.0", "less", "v1.0.0", ""},
		"an older version":                       {"v0.10.0", "", "v0.9.0", "v0.9.0 is older than v0.10.0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := small(t)
			r.run(t, "git", "tag", test.last)
			change := map[string]string{"CHANGELOG.md": changelog(test.version)}
			if test.change != "" {
				change["release/api/outbox.txt"] = api[test.change]
			}
			r.commit(t, change)
			code, printed := r.try(t, "release/tag", test.version)
			if test.refused == "" {
				require.Zero(t, code, printed)
				require.Contains(t, r.tags(t), test.version)
				return
			}
			require.Equal(t, 1, code, printed)
			require.Contains(t, printed, test.refused)
			require.Equal(t, []string{test.last}, r.tags(t))
		})
	}
}

func TestWhatTagRefuses(t *testing.T) {
	version := []string{"v0.1.0"}
	goMod := "module " + root + "\n\ngo 1.25.0\n\n"
	tests := map[string]struct {
		args    []string
		prepare func(*testing.T, *repository)
		refused string
	}{
		"no version":       {nil, nil, "want one argument"},
		"two versions":     {[]string{"v0.1.0", "v0.2.0"}, nil, "want one argument"},
		"an empty version": {[]string{""}, nil, `"" is no version`},
		"a number":         {[]string{"0.1.0"}, nil, `"0.1.0" is no version`},
		"two numbers":      {[]string{"v0.1"}, nil, `"v0.1" is no version`},
		"a leading zero":   {[]string{"v0.01.0"}, nil, `"v0.01.0" is no version`},
		"a pre-release":    {[]string{"v0.1.0-rc.1"}, nil, `"v0.1.0-rc.1" is no version`},
		"a build":          {[]string{"v0.1.0+1"}, nil, `"v0.1.0+1" is no version`},
		"a line more":      {[]string{"v0.1.0\nv0.2.0"}, nil, "is no version"},
		"an option":        {[]string{"--force"}, nil, `"--force" is no version`},
		"a module path":    {[]string{"v2.0.0"}, nil, "v2.0.0 needs a module path that ends in /v2"},
		"no entry":         {[]string{"v0.2.0"}, nil, `no entry "## v0.2.0"`},
		"an empty entry":   {[]string{"v0.0.9"}, nil, `no entry "## v0.0.9"`},
		"a part of a word": {[]string{"v0.0.8"}, func(t *testing.T, r *repository) {
			r.commit(t, map[string]string{"CHANGELOG.md": "## v0.0.80\n\n- x\n"})
		}, "no entry"},
		"a file is changed": {version, func(t *testing.T, r *repository) { r.write(t, map[string]string{"outbox.go": "package outbox\n"}) }, "the tree is dirty"},
		"a file is new":     {version, func(t *testing.T, r *repository) { r.write(t, map[string]string{"new.go": "package outbox\n"}) }, "the tree is dirty"},
		"the root's tag":    {version, func(t *testing.T, r *repository) { r.run(t, "git", "tag", "v0.1.0") }, "the tag v0.1.0 exists"},
		"the command's tag": {version, func(t *testing.T, r *repository) { r.run(t, "git", "tag", "cmd/outbox/v0.1.0") }, "the tag cmd/outbox/v0.1.0 exists"},
		"a replace": {version, func(t *testing.T, r *repository) {
			r.commit(t, map[string]string{"go.mod": goMod + "replace example.com/a => ./a\n"})
		}, "go.mod has a replace or an exclude"},
		"an exclude": {version, func(t *testing.T, r *repository) {
			r.commit(t, map[string]string{"go.mod": goMod + "exclude example.com/a v1.0.0\n"})
		}, "go.mod has a replace or an exclude"},

		// What shows when the first tag is made: it goes again.
		"another replace": {version, func(t *testing.T, r *repository) {
			r.run(t, "sed", "-i.old", "s/^replace .*/&\\nreplace example.com\\/a => .\\/a/", "cmd/outbox/go.mod")
			r.run(t, "rm", "cmd/outbox/go.mod.old")
			r.commit(t, nil)
		}, "cmd/outbox/go.mod has another replace"},
		"a package that the root has not": {version, func(t *testing.T, r *repository) {
			r.commit(t, map[string]string{"cmd/outbox/main.go": "package main\n\nimport _ \"" + root + "/gone\"\n\nfunc main() {}\n"})
		}, root + "/gone"},
		"a command that does not compile": {version, func(t *testing.T, r *repository) {
			r.commit(t, map[string]string{"cmd/outbox/main.go": "package main\n\nimport \"" + root + "\"\n\nfunc main() { outbox.Gone() }\n"})
		}, "undefined: outbox.Gone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := small(t)
			if test.prepare != nil {
				test.prepare(t, r)
			}
			tags, status := r.tags(t), r.run(t, "git", "status", "--porcelain")
			code, printed := r.try(t, "release/tag", test.args...)
			require.Equal(t, 1, code, printed)
			require.Contains(t, printed, test.refused)
			require.Equal(t, tags, r.tags(t))
			require.Equal(t, status, r.run(t, "git", "status", "--porcelain"))
			require.Equal(t, 1, strings.Count(r.run(t, "git", "worktree", "list"), "\n"))
		})
	}
}
