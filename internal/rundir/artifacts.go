package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"sandproof/internal/redact"
)

// RedactArtifacts takes the secrets out of the run's raw files, once nobody
// writes them any more: a guest, and so a log, may hold any. A file without one
// keeps every byte, and with that the offsets that findings name.
func (r *Run) RedactArtifacts(redactor *redact.Redactor) error {
	var trouble []error
	err := filepath.WalkDir(r.Artifacts(), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			err = redactFile(path, redactor)
		}
		if err != nil {
			trouble = append(trouble, fmt.Errorf("take secrets out of %s: %w", path, err))
		}
		return nil
	})
	return errors.Join(append(trouble, err)...)
}

// redactFile replaces a file that holds a secret by one that does not. It looks
// before it writes: nothing may be left on the disk for a second whole log.
func redactFile(path string, redactor *redact.Redactor) (err error) {
	holds, err := redactTo(io.Discard, path, redactor)
	if err != nil || !holds {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	clean, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(info.Mode().Perm()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean.Cleanup()) }()
	if _, err := redactTo(clean, path, redactor); err != nil {
		return err
	}
	return clean.CloseAtomicallyReplace()
}

// redactTo writes a file without secrets, and tells whether it held any.
func redactTo(out io.Writer, path string, redactor *redact.Redactor) (bool, error) {
	raw, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	changes := redact.NewWriter(out, redactor)
	if _, err := io.Copy(changes, raw); err != nil {
		return false, err
	}
	err = changes.Flush()
	return changes.Changed(), err
}
