package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// otherNames are what attributes of the log could be called, and what they are.
var otherNames = map[string]string{
	"name": "interface", "iface": "interface", "dev": "interface", "link": "interface", "ifindex": "index", "error": "err", "why": "err", "addr": "address", "ip": "address",
	"hwaddr": "mac", "path": "file", "duration": "took", "reason": "err",
}

// TestLogAttributes: an attribute of the log has one name, of small letters.
func TestLogAttributes(t *testing.T) {
	word := regexp.MustCompile(`^[a-z][a-z_]*$`)
	found := 0
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, f.path()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isLog(call.Fun) {
				return true
			}
			for i := 1; i < len(call.Args); i += 2 {
				lit, ok := call.Args[i].(*ast.BasicLit)
				if !ok {
					continue
				}
				found++
				key, err := strconv.Unquote(lit.Value)
				if other := otherNames[key]; other != "" {
					t.Errorf("%s: attribute %s is called %q elsewhere", f.path(), lit.Value, other)
				} else if err != nil || !word.MatchString(key) {
					t.Errorf("%s: attribute %s is no word of small letters", f.path(), lit.Value)
				}
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("only %d attributes were found", found)
	}
}

// isLog reports whether a function is a log's.
func isLog(fun ast.Expr) bool {
	s, ok := fun.(*ast.SelectorExpr)
	if !ok || !strings.Contains(" Debug Info Warn Error ", " "+s.Sel.Name+" ") {
		return false
	}
	switch x := s.X.(type) {
	case *ast.Ident:
		return x.Name == "log"
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	}
	return false
}
