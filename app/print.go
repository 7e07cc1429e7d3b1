package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/krib-ai/krib/schemas"
)

// printJSON writes one line, in the form of the API's answers.
func printJSON(w io.Writer, v any) error {
	b, err := schemas.Encode(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// printIndented is printJSON for people.
func printIndented(w io.Writer, v any) error {
	b, err := schemas.Encode(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("indenting: %w", err)
	}
	_, err = w.Write(append(out.Bytes(), '\n'))
	return err
}
