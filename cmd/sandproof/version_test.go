package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// What was green is compared by the version that the suites recorded: the two
// programs are of one version, or nothing is ever left out.
func TestOneVersion(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "e2e", "target_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^const version = "(.*)"$`).FindSubmatch(source)
	if found == nil || string(found[1]) != version {
		t.Errorf("the suites are of version %q, and sandproof of %q", found, version)
	}
}
