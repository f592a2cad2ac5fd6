package redact

import (
	"bytes"
	"strings"
	"testing"
)

// A secret goes however it is split over writes, and nothing else is lost.
func FuzzWriter(f *testing.F) {
	f.Add("before ", "after\nmore", uint(3))
	f.Add("", "", uint(1))
	f.Add("\n", "\nx\n", uint(7))
	f.Add("", "apiKey=basic\nx\n", uint(16))
	f.Fuzz(func(t *testing.T, before, after string, size uint) {
		if strings.Contains(before+after, "unter2") {
			t.Skip()
		}
		text := before + "\n" + hunter + "\n" + after
		var out bytes.Buffer
		w := NewWriter(&out, New(hunter))
		for rest := text; rest != ""; {
			n := min(len(rest), int(size%17)+1)
			if got, err := w.Write([]byte(rest[:n])); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), hunter) {
			t.Errorf("the secret survived in %q", &out)
		}
		if lines := strings.Count(out.String(), "\n"); lines != strings.Count(text, "\n") {
			t.Errorf("%d lines of %q became %q", lines, text, &out)
		}
	})
}

// What has no line end waits for Flush.
func TestWriterFlushes(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, New(hunter))
	if _, err := w.Write([]byte("a\nkey " + hunter[:5])); err != nil || out.String() != "a\n" {
		t.Errorf("%q, %v", &out, err)
	}
	if _, err := w.Write([]byte(hunter[5:])); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil || out.String() != "a\nkey "+mask || w.Unwrap() != &out {
		t.Errorf("%q, %v", &out, err)
	}
}

// A line without an end takes no more memory than a piece of it, and hides no
// secret at the end of one.
func TestLinesWithoutAnEnd(t *testing.T) {
	for _, before := range []int{mostPending - len(hunter), mostPending - 3, mostPending, mostPending + keptPending - 5} {
		var out bytes.Buffer
		w := NewWriter(&out, New(hunter))
		text := strings.Repeat("x", before) + hunter + strings.Repeat("y", mostPending)
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), 1000)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			if len(w.pending) > mostPending {
				t.Fatalf("%d bytes wait", len(w.pending))
			}
			rest = rest[n:]
		}
		if err := w.Flush(); err != nil || out.String() != strings.Replace(text, hunter, mask, 1) {
			t.Errorf("%d before: %v, %d bytes, of which %d secrets", before, err, out.Len(), strings.Count(out.String(), hunter))
		}
	}
}

// What only has the shape of a secret is not seen in two halves either, wherever
// it stands in a line without an end, and in whatever pieces that comes.
func TestShapesInLinesWithoutAnEnd(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef01234567"
	for _, secret := range []string{"e2b_" + digits, "Authorization: Bearer " + digits, "apiKey: " + digits} {
		for _, near := range []int{-len(secret), -len(secret) / 2, -4, 1} {
			for _, border := range []int{mostPending - keptPending, mostPending, mostPending + near + 32<<10} {
				var out bytes.Buffer
				w := NewWriter(&out, New())
				text := strings.Repeat("x", border+near-1) + " " + secret + " " + strings.Repeat("y", 100)
				for rest := []byte(text); len(rest) > 0; {
					n := min(len(rest), mostPending/8)
					if _, err := w.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := w.Flush(); err != nil || strings.Contains(out.String(), digits[len(digits)-8:]) || !strings.Contains(out.String(), mask) {
					t.Errorf("%s at %d: %v, it ends in %q", secret, border+near, err, out.String()[out.Len()-160:])
				}
			}
		}
	}
}

// A document is written whole, after what was written before it.
func TestWriterKeepsDocuments(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, New(hunter))
	if _, err := w.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteDocument([]byte(`<a b="apiKey:">` + hunter + `</a>`)); err != nil || out.String() != `a<a b="apiKey:">`+mask+`</a>` {
		t.Errorf("%q, %v", &out, err)
	}
}
