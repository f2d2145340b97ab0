package main

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// public is a package that others can import, and the file of its API.
type public struct {
	file  string
	lines []string
}

// load reads the public packages of the module in dir from what the compiler exports.
func load(dir string) ([]public, error) {
	all, err := list(dir)
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var found []public
	for _, p := range all {
		if p.DepOnly || p.Name == "main" || len(p.GoFiles) == 0 || slices.Contains(strings.Split(p.ImportPath, "/"), "internal") {
			continue
		}
		read, err := from.Import(p.ImportPath)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
		if name == "" {
			name = path.Base(p.ImportPath)
		}
		found = append(found, public{file: strings.ReplaceAll(name, "/", "_") + ".txt", lines: lines(read, p.Module.Path)})
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no package that others can import", dir)
	}
	return found, nil
}

// text is the API of one package, line by line.
type text struct {
	pkg    *types.Package
	module string
	lines  []string
}

// lines returns the API of a package: its names in order, each type followed by its fields and methods.
func lines(pkg *types.Package, module string) []string {
	t := &text{pkg: pkg, module: module}
	for _, name := range pkg.Scope().Names() {
		if !token.IsExported(name) {
			continue
		}
		switch o := pkg.Scope().Lookup(name).(type) {
		case *types.Const:
			t.add("const %s %s = %s", name, t.of(o.Type()), o.Val().ExactString())
		case *types.Var:
			t.add("var %s %s", name, t.of(o.Type()))
		case *types.Func:
			t.add("func %s%s%s", name, t.parameters(o.Signature().TypeParams()), t.signature(o.Signature()))
		case *types.TypeName:
			t.typeName(o)
			t.members(o)
		}
	}
	return t.lines
}

func (t *text) add(format string, values ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, values...))
}

func (t *text) typeName(o *types.TypeName) {
	name := o.Name()
	if alias, ok := o.Type().(*types.Alias); ok {
		t.add("type %s%s = %s", name, t.parameters(alias.TypeParams()), t.of(alias.Rhs()))
		return
	}
	named := o.Type().(*types.Named)
	head := "type " + name + t.parameters(named.TypeParams())
	switch u := named.Underlying().(type) {
	case *types.Struct:
		t.add("%s struct", head)
		for field := range u.Fields() {
			switch {
			case !field.Exported():
			case field.Embedded():
				t.add("field %s: embedded %s", name, t.of(field.Type()))
			default:
				t.add("field %s.%s %s", name, field.Name(), t.of(field.Type()))
			}
		}
		t.methods(named, name)
	case *types.Interface:
		if !u.IsMethodSet() {
			t.add("%s %s", head, t.of(u))
			return
		}
		t.add("%s interface, %s", head, implementable(u))
		t.methods(named, name)
	default:
		t.add("%s %s", head, t.of(u))
		t.methods(named, name)
	}
}

// methods adds the methods that a type has itself or by what it embeds.
func (t *text) methods(named *types.Named, name string) {
	all, ofValue := types.NewMethodSet(types.NewPointer(named)), types.NewMethodSet(named)
	if types.IsInterface(named) {
		all = ofValue
	}
	for method := range all.Methods() {
		f := method.Obj().(*types.Func)
		if !f.Exported() {
			continue
		}
		receiver := name
		if ofValue.Lookup(t.pkg, f.Name()) == nil {
			receiver = "*" + name
		}
		t.add("method (%s) %s%s", receiver, f.Name(), t.signature(method.Type().(*types.Signature)))
	}
}

// members adds the sealed interfaces of the package that a type belongs to: which options a constructor takes shows in no method.
func (t *text) members(of *types.TypeName) {
	for _, name := range t.pkg.Scope().Names() {
		o, ok := t.pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok || !o.Exported() || o == of {
			continue
		}
		i, ok := o.Type().Underlying().(*types.Interface)
		if !ok || implementable(i) != "sealed" {
			continue
		}
		switch {
		case types.Implements(of.Type(), i):
			t.add("member (%s) of %s", of.Name(), name)
		case types.Implements(types.NewPointer(of.Type()), i):
			t.add("member (*%s) of %s", of.Name(), name)
		}
	}
}

// implementable says how many methods an implementation of others must have. One more breaks theirs, and changes this line. An interface
// with an unexported method has no such implementation, and may get more.
func implementable(i *types.Interface) string {
	for method := range i.Methods() {
		if !method.Exported() {
			return "sealed"
		}
	}
	return fmt.Sprintf("methods: %d", i.NumMethods())
}

// of is a type's text. Of another module, the name of a package goes with one directory before it: there are many packages called types.
func (t *text) of(typ types.Type) string {
	if sig, ok := typ.(*types.Signature); ok {
		return "func" + t.signature(sig)
	}
	return types.TypeString(typ, func(p *types.Package) string {
		directory, name := path.Split(p.Path())
		switch {
		case p == t.pkg:
			return ""
		case p.Path() == t.module, strings.HasPrefix(p.Path(), t.module+"/"):
			return name
		}
		return path.Join(path.Base(directory), name)
	})
}

func (t *text) parameters(list *types.TypeParamList) string {
	if list.Len() == 0 {
		return ""
	}
	var all []string
	for p := range list.TypeParams() {
		all = append(all, p.Obj().Name()+" "+t.of(p.Constraint()))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// signature is what follows a function's name, without the names of its parameters.
func (t *text) signature(sig *types.Signature) string {
	in := t.tuple(sig.Params(), sig.Variadic())
	out := t.tuple(sig.Results(), false)
	switch sig.Results().Len() {
	case 0:
		return "(" + in + ")"
	case 1:
		return "(" + in + ") " + out
	}
	return "(" + in + ") (" + out + ")"
}

func (t *text) tuple(tuple *types.Tuple, variadic bool) string {
	var all []string
	for v := range tuple.Variables() {
		all = append(all, t.of(v.Type()))
	}
	if variadic {
		last := tuple.At(tuple.Len() - 1).Type().(*types.Slice)
		all[len(all)-1] = "..." + t.of(last.Elem())
	}
	return strings.Join(all, ", ")
}
