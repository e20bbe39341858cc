package cli

import _ "embed"

// Schema is the JSON Schema of what --verdict json prints, as a document. The
// fields are those of docs/CAPTURE-JSON.md; a test compares.
//
//go:embed schema.json
var Schema string
