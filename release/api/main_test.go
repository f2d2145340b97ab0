package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// written returns the folder of a module that consists of these files.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	t.Setenv("GOWORK", "off")
	dir := t.TempDir()
	files["go.mod"] = "module shop.example/shop\n\ngo 1.25.0\n"
	files[folder+"/README"] = "not an API\n"
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return dir
}

func TestTheTextOfAnAPI(t *testing.T) {
	dir := written(t, map[string]string{
		"shop.go": `// Package shop has a name of each kind.
package shop

import (
	"context"
	"iter"
	"net/http"
	"time"

	"shop.example/shop/inner/deep"
	"shop.example/shop/internal/hidden"
)

const Limit = 3
const Wait time.Duration = time.Second
const secret = 1

type Color string
const Red Color = "red"
func (c Color) Valid() bool { return c == Red }

var ErrSoldOut error
var unseen = secret

type Payload interface{ EventType() string }
type Number interface{ ~int | ~float64 }
type Option interface{ option(); Name() string }
type Both interface{ Option; other() }
type Plain struct{}
func (*Plain) option() {}
func (*Plain) Name() string { return "" }

type Order[T any, N Number] struct {
	ID     string
	Data   T
	Notify func(ctx context.Context, orders ...N) (sent int, err error)
	hidden int
}
func (o *Order[T, N]) Pay(cents int64) error { _, _ = unseen, o.hidden; return nil }
func (o *Order[T, N]) reset()              {}

type Shop struct {
	*deep.Lid
	deep.Box
	count int
}
type Old = Shop
type Handler func(w http.ResponseWriter, r *http.Request)

func Handle[T Payload](s *Shop, handle func(ctx context.Context, value T) error, opts ...Option) (closed func(), err error) { return nil, nil }
func List(s hidden.Side) iter.Seq2[Order[string, int], error] { return nil }
func helper() {}
`,
		"shop_test.go":              "package shop\n\nconst OfATest = 1\n",
		"inner/deep/deep.go":        "package deep\n\ntype Box struct{ Size int }\n\ntype Lid struct{}\n\nfunc (*Lid) Lift() {}\n\nfunc (Box) Open() {}\n\nfunc (b *Box) Close() error { return nil }\n",
		"internal/hidden/hidden.go": "package hidden\n\ntype Side int\n",
		"cmd/shop/main.go":          "package main\n\nconst Loud = 1\n\nfunc main() {}\n",
		"sim/doc.go":                "package sim\n",
		"docs/docs_test.go":         "package docs\n",
	})
	require.NoError(t, run(dir, true, &bytes.Buffer{}))
	stored, err := filepath.Glob(filepath.Join(dir, folder, "*.txt"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, folder, "inner_deep.txt"), filepath.Join(dir, folder, "shop.txt")}, stored)
	text, err := os.ReadFile(stored[0])
	require.NoError(t, err)
	require.Equal(t, "type Box struct\nfield Box.Size int\nmethod (*Box) Close() error\nmethod (Box) Open()\ntype Lid struct\nmethod (*Lid) Lift()\n", string(text))
	text, err = os.ReadFile(stored[1])
	require.NoError(t, err)
	require.Equal(t, `type Both interface, sealed
method (Both) Name() string
member (Both) of Option
type Color string
method (Color) Valid() bool
var ErrSoldOut error
func Handle[T Payload](*Shop, func(context.Context, T) error, ...Option) (func(), error)
type Handler func(net/http.ResponseWriter, *net/http.Request)
const Limit untyped int = 3
func List(hidden.Side) iter.Seq2[Order[string, int], error]
type Number interface{~int | ~float64}
type Old = Shop
type Option interface, sealed
method (Option) Name() string
type Order[T any, N Number] struct
field Order.ID string
field Order.Data T
field Order.Notify func(context.Context, ...N) (int, error)
method (*Order) Pay(int64) error
type Payload interface, methods: 1
method (Payload) EventType() string
type Plain struct
method (*Plain) Name() string
member (*Plain) of Option
const Red Color = "red"
type Shop struct
field Shop: embedded *deep.Lid
field Shop: embedded deep.Box
method (*Shop) Close() error
method (Shop) Lift()
method (Shop) Open()
const Wait time.Duration = 1000000000
`, string(text))
}

func TestAChangeOfTheAPIIsSeen(t *testing.T) {
	const before = "package shop\n\nimport \"context\"\n\ntype Client interface{ Get(ctx context.Context) error }\n\nfunc New(c Client) int { return 0 }\n"
	tests := map[string]struct {
		old, new, file string
		shown          string // what run shows, or nothing if the API is the same
	}{
		"a comment":              {"func New", "// New is one.\nfunc New", "", ""},
		"a parameter's name":     {"c Client", "client Client", "", ""},
		"an unexported function": {"func New", "func old() {}\n\nfunc New", "", ""},
		"a parameter's type":     {"c Client", "c *Client", "", "release/api/shop.txt\n- func New(Client) int\n+ func New(*Client) int\n"},
		"a name":                 {"func New", "func Make", "", "release/api/shop.txt\n- func New(Client) int\n+ func Make(Client) int\n"},
		"an addition":            {"func New", "func Add() {}\n\nfunc New", "", "release/api/shop.txt\n+ func Add()\n"},
		"a method more of an interface that others implement": {"Get(", "Head(); Get(", "",
			"release/api/shop.txt\n- type Client interface, methods: 1\n+ type Client interface, methods: 2\n+ method (Client) Head()\n"},
		"a package":   {"", "", "cart/cart.go", "release/api/cart.txt\n+ type Cart struct\n"},
		"an old file": {"", "", folder + "/old.txt", "release/api/old.txt\n- package cart; type Cart struct{}\n"},
		"a result":    {"int {", "int64 {", "", "release/api/shop.txt\n- func New(Client) int\n+ func New(Client) int64\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := written(t, map[string]string{"shop.go": before})
			require.ErrorIs(t, run(dir, false, &bytes.Buffer{}), errChanged, "there is no file yet")
			require.NoError(t, run(dir, true, &bytes.Buffer{}))
			require.NoError(t, run(dir, false, &bytes.Buffer{}))

			require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.go"), []byte(strings.Replace(before, test.old, test.new, 1)), 0o644))
			if test.file != "" {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(test.file)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, test.file), []byte("package cart; type Cart struct{}\n"), 0o644))
			}
			shown := &bytes.Buffer{}
			err := run(dir, false, shown)
			require.Equal(t, test.shown, shown.String())
			if test.shown == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, errChanged)
			require.NoError(t, run(dir, true, &bytes.Buffer{}))
			require.NoError(t, run(dir, false, &bytes.Buffer{}))
		})
	}
}

func TestAnAPIThatCannotBeRead(t *testing.T) {
	err := run(written(t, map[string]string{"shop.go": "package shop\n\nvar X = y\n"}), true, &bytes.Buffer{})
	require.ErrorContains(t, err, "undefined: y")
	err = run(written(t, map[string]string{"internal/a/a.go": "package a\n"}), true, &bytes.Buffer{})
	require.ErrorContains(t, err, "no package that others can import")
}
