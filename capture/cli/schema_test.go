package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiledSchema is Schema, as another's validator understands it.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("capture.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("capture.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemaOfOutput: what is printed of all kinds of packets, and of a summary, is
// as the schema says.
func TestSchemaOfOutput(t *testing.T) {
	s := compiledSchema(t)
	file := withVerdicts(t)
	lines := 0
	for _, args := range [][]string{{"-nr", file, "--verdict", "json"}, {"-nnvvver", file, "--verdict", "json"}, {"-r", file, "--verdict", "json", "--summary"}} {
		var out bytes.Buffer
		if err := Run(t.Context(), args, Env{Out: &out, Err: io.Discard}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
			if err == nil {
				err = s.Validate(v)
			}
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, line)
			}
			lines++
		}
	}
	if lines < 1000 {
		t.Errorf("only %d lines", lines)
	}
}

// TestSchemaRefuses: it is no schema of everything.
func TestSchemaRefuses(t *testing.T) {
	s := compiledSchema(t)
	good := `{"time":"2026-01-02T03:04:05.000000006Z","length":60,"captured":60,"text":"x","verdict":null}`
	for line, ok := range map[string]bool{
		good: true,
		`{"packets":3,"verdict":"drop","reason":"IP_RPFILTER","interface":"cali1","direction":"in"}`: true,
		strings.Replace(good, `null`, `"lost"`, 1):                                                   false,
		strings.Replace(good, `"text"`, `"texts"`, 1):                                                false,
		strings.Replace(good, `60`, `-60`, 1):                                                        false,
		strings.Replace(good, `null`, `null,"src_port":70000`, 1):                                    false,
		strings.Replace(good, `null`, `null,"ip_flags":["DF","XX"]`, 1):                              false,
		strings.Replace(good, `null`, `null,"packets":1`, 1):                                         false,
		`{"packets":3}`: false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestSchemaDocumented: the schema has the fields of docs/CAPTURE-JSON.md, with their
// types.
func TestSchemaDocumented(t *testing.T) {
	var schema struct {
		Defs struct {
			Packet struct {
				Properties map[string]struct{ Type string }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	has, want := schema.Defs.Packet.Properties, documented(t)
	if a, b := slices.Sorted(maps.Keys(has)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Fatalf("fields %v\nwant   %v", a, b)
	}
	for name, typ := range want {
		got := strings.Replace(has[name].Type, "integer", "number", 1)
		if got != typ && name != "verdict" {
			t.Errorf("%s: %s, want %s", name, got, typ)
		}
	}
}
