package export

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrExists says that a file is there already.
var ErrExists = errors.New("is there already")

// ToFile lets write fill a new file and gives it its name when all of it is on the
// disk: under that name there is never a part. Until then it is a hidden file in
// the same folder, which is removed when write ends with an error. Only its owner
// may read it. Without force, a file of that name is an error.
func ToFile(name string, force bool, write func(io.Writer) error) (err error) {
	if err := free(name, force); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.part")
	if err != nil {
		return fmt.Errorf("making a file beside %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := free(name, force); err != nil { // it took a while
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("naming the file: %w", err)
	}
	return nil
}

func free(name string, force bool) error {
	switch _, err := os.Lstat(name); {
	case err == nil && !force:
		return fmt.Errorf("%s %w", name, ErrExists)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking for %s: %w", name, err)
	}
	return nil
}
