package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// skipHelpers are the functions by which a test is skipped: they stand in internal/nstest and fail where LAB_REQUIRED=1,
// but for the few excuses that are listed there.
const skipHelpers = "internal/nstest"

// TestSkips: no test passes by itself, and in silence, where something is missing.
func TestSkips(t *testing.T) {
	excused := map[string]bool{}
	walk(t, func(file string) {
		if path.Ext(file) != ".go" {
			return
		}
		within := path.Dir(file) == skipHelpers
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, filepath.Join(root, file), nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, of := method(call)
			if id, ok := call.Fun.(*ast.Ident); ok && within {
				name, of = id.Name, "nstest"
			}
			switch {
			case of == "nstest" && name == "Excused" && len(call.Args) > 1:
				switch why := call.Args[1].(type) {
				case *ast.SelectorExpr:
					excused[why.Sel.Name] = true
				case *ast.Ident:
					excused[why.Name] = true
				default:
					t.Errorf("%s: the excuse is none of nstest's", files.Position(call.Pos()))
				}
			case of == "nstest", within:
			case name == "Skipf", name == "SkipNow", name == "Skip" && (len(call.Args) > 0 || isTB(of)):
				t.Errorf("%s: %s.%s: a test is skipped by nstest.Skip, which fails where LAB_REQUIRED=1, or nstest.Excused", files.Position(call.Pos()), of, name)
			}
			return true
		})
	})
	for _, why := range excuses(t) {
		if !excused[why] {
			t.Errorf("%s is an excuse that no test has", why)
		}
	}
}

// method gives the name of what is called, and of what.
func method(call *ast.CallExpr) (name, of string) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	switch x := sel.X.(type) {
	case *ast.Ident:
		of = x.Name
	case *ast.SelectorExpr:
		of = x.Sel.Name
	}
	return sel.Sel.Name, of
}

// isTB reports whether a name is what a testing.TB is called.
func isTB(name string) bool {
	return slices.Contains([]string{"t", "b", "f", "tb", "T", "B", "TB"}, name)
}

// excuses are the constants of type Excuse.
func excuses(t *testing.T) (names []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, skipHelpers, "skip.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Excuse" {
				for _, name := range v.Names {
					names = append(names, name.Name)
				}
			}
		}
		return true
	})
	if len(names) == 0 {
		t.Fatalf("no excuses in %s", strings.TrimPrefix(skipHelpers, "internal/"))
	}
	return names
}
