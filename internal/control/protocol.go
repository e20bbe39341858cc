// Package control serves the daemon's control socket. It knows the operations by
// a table, and keeps the limits that one client may not harm the others by.
// Package client is the other side.
//
// A client connects and says what it wants in one line of JSON, an object whose
// member "op" names the operation. It is answered with one line of JSON, an
// object that has a member "error" if something went wrong. Then the server
// hangs up, unless the operation has more to say, and to hear.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Request is what the requests of all operations have.
type Request struct {
	Op string `json:"op"`
}

// Refusal is the reply that says only why there is no other.
type Refusal struct {
	Error string `json:"error"`
}

// ErrNotJSON says that a request can't be read.
var ErrNotJSON = errors.New("request is not a line of JSON")

// Unknown is the error about an operation of a name that there is not.
func Unknown(op string) error { return fmt.Errorf("unknown request %q", op) }

// Decode reads a request into v, a pointer to a struct. Its only error is
// ErrNotJSON.
func Decode(request []byte, v any) error {
	if json.Unmarshal(request, v) != nil {
		return ErrNotJSON
	}
	return nil
}
