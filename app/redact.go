package app

import (
	"errors"
	"fmt"
	"io"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/schemas"
)

// A redaction is what the commands that show records can be told about personal
// data.
type redaction struct {
	how export.Redaction
	key schemas.Secret
}

// shortestKey of hashes, in characters: phone numbers are few, and whoever guesses
// the key has them all.
const shortestKey = 16

func (r *redaction) settings(s *settings) {
	s.fs.Func("redact", "take out personal data, which the schemas mark with x-pii: drop it, or hash it to what can still be joined", func(v string) error {
		r.how = export.Redaction(v)
		if r.how != export.Drop && r.how != export.Hash {
			return errors.New("must be drop or hash")
		}
		return nil
	})
	s.addSecret("KRIB_REDACT_KEY", "the key of the hashes; the same key makes the same hashes. A random one without it", func(v string) error {
		if r.key = schemas.Secret(v); v != "" && len(v) < shortestKey {
			return fmt.Errorf("must have %d characters at least", shortestKey)
		}
		return nil
	})
}

// redactor is nil where nothing is to be taken out.
func (r *redaction) redactor(stderr io.Writer, command string) (*export.Redactor, error) {
	if r.how == "" {
		return nil, nil
	}
	if r.how == export.Hash && r.key == "" {
		if _, err := fmt.Fprintf(stderr, "krib %s: KRIB_REDACT_KEY is not set: the hashes are of a random key, and join with those of no other run\n", command); err != nil {
			return nil, err
		}
	}
	return export.NewRedactor(r.how, r.key), nil
}

// confess says on the side what redaction had to leave out.
func (r *redaction) confess(stderr io.Writer, command string, done export.Summary) error {
	if done.Withheld == 0 {
		return nil
	}
	_, err := fmt.Fprintf(stderr, "krib %s: the values of %d records are left out: no schema that is known here says what in them is personal\n", command, done.Withheld)
	return err
}
