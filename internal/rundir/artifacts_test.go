package rundir

import (
	"os"
	"path/filepath"
	"testing"

	"sandproof/internal/redact"
)

// Secrets go out of the run's raw files, also out of those deep below; a file
// that holds none stays the same file, and nothing else is left.
func TestRawFilesAreRedacted(t *testing.T) {
	run, err := Create(t.TempDir(), manifest("r"), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(run.Artifacts(), "lab", "console")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	leaky, plain := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
	for path, text := range map[string]string{leaky: "token hunter2hunter2\r\nX-API-Key: abcdefgh\r\n\xff\x00no end", plain: "\x1b[1mboot\r\nno end"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.RedactArtifacts(redact.New("hunter2hunter2")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(leaky)
	if want := "token [redacted]\r\nX-API-Key: [redacted]\r\n\xff\x00no end"; err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(leaky); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if after, err := os.Stat(plain); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file without a secret is another one: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
