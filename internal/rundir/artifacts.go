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

// redactFile replaces a file that holds a secret by one that does not.
func redactFile(path string, redactor *redact.Redactor) (err error) {
	raw, err := os.Open(path)
	if err != nil {
		return err
	}
	defer raw.Close()
	info, err := raw.Stat()
	if err != nil {
		return err
	}
	clean, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(info.Mode().Perm()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean.Cleanup()) }()
	changes := redact.NewWriter(clean, redactor)
	if _, err := io.Copy(changes, raw); err != nil {
		return err
	}
	if err := changes.Flush(); err != nil || !changes.Changed() {
		return err
	}
	return clean.CloseAtomicallyReplace()
}
