// Command api keeps what the root module exports as text: one file for each public package, one line for each name, field and method. So a
// change of the API is a change of a file, which a reviewer sees, and which release/tag compares with the last release.
//
//	go run ./release/api            at the root of a clone: fails, and shows the lines, if the files differ from the code
//	go run ./release/api -update    writes the files
//
// Parameter names, comments and struct tags are not in the text.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const folder = "release/api"

func main() {
	update := flag.Bool("update", false, "write the files")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(".", *update, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release/api:", err)
		os.Exit(1)
	}
}

var errChanged = errors.New("the API is not what the files say. If that is meant: go run ./release/api -update, and commit the files")

// run compares the API of the module in dir with its files, or writes them.
func run(dir string, update bool, out io.Writer) error {
	packages, err := load(dir)
	if err != nil {
		return err
	}
	stored, err := filepath.Glob(filepath.Join(dir, folder, "*.txt"))
	if err != nil {
		return err
	}
	wanted := map[string][]string{}
	for _, file := range stored {
		wanted[filepath.Base(file)] = nil // unless its package exports something, the file must go
	}
	for _, p := range packages {
		if len(p.lines) > 0 { // a folder of tests exports nothing
			wanted[p.file] = p.lines
		}
	}
	changed := false
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		want := wanted[name]
		file := filepath.Join(dir, folder, name)
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		have := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
		if err == nil && want != nil && slices.Equal(have, want) {
			continue
		}
		changed = true
		report(out, filepath.Join(folder, name), have, want)
		if !update {
			continue
		}
		if want == nil {
			err = os.Remove(file)
		} else {
			err = os.WriteFile(file, []byte(strings.Join(want, "\n")+"\n"), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if changed && !update {
		return errChanged
	}
	return nil
}

// report prints the lines that only one of the two has.
func report(out io.Writer, name string, have, want []string) {
	fmt.Fprintln(out, name)
	for _, line := range have {
		if !slices.Contains(want, line) {
			fmt.Fprintln(out, "-", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(have, line) {
			fmt.Fprintln(out, "+", line)
		}
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Name, Export string
	DepOnly                  bool
	GoFiles                  []string
	Module                   *struct{ Path string }
}

// list returns the packages of the module in dir and all that they depend on, compiled.
func list(dir string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Name,Export,DepOnly,GoFiles,Module", "./...")
	cmd.Dir = dir
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, failure.Bytes())
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}
