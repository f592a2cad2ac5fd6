package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rootFS makes a small file system of a tree, where a text that begins with
// "-> " is a link, and lets debugfs do more to it.
func rootFS(t *testing.T, tree map[string]string, requests string) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for name, text := range tree {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch target, isLink := strings.CutPrefix(text, "-> "); {
		case err != nil:
		case isLink:
			err = os.Symlink(target, path)
		case text == "directory":
			err = os.Mkdir(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "rootfs.ext4")
	mke2fs(t, name, "4M", "-t", "ext4", "-d", root)
	if requests != "" {
		cmd := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-w", "-f", "-", name)
		cmd.Stdin = strings.NewReader(requests)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return name
}

// inside is what a file's inode says in an image.
func inside(t *testing.T, image *os.File, name string) string {
	t.Helper()
	e := editor{image}
	stat, err := e.run(t.Context(), "debugfs", "-R", "stat "+name)
	if err != nil {
		t.Fatal(err)
	}
	found, err := parseStat(stat)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return fmt.Sprintf("%s %s %s %s", found.kind, found.mode, found.owner, found.target)
}

func hostFiles(t *testing.T) Replacements {
	t.Helper()
	dir := t.TempDir()
	// A name with quotes and spaces must not matter.
	with := Replacements{Init: filepath.Join(dir, `my "init" \ file`), Envd: filepath.Join(dir, "envd")}
	for path, text := range map[string]string{with.Init: "#!/bin/sh\n# another\n", with.Envd: strings.Repeat("\x7fELF\x00\n", 40000)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return with
}

// Files are replaced where the guest will look for them, over links as the
// guest follows them, and the image itself stays as it is.
func TestReplace(t *testing.T) {
	plain := map[string]string{"sbin/init": "old", "usr/bin/envd": "old", "usr/local/bin/other": "x"}
	merged := map[string]string{"sbin": "-> usr/sbin", "usr/sbin/init": "-> ../lib/systemd/systemd", "usr/lib/systemd/systemd": "systemd", "usr/bin/envd": "old"}
	for _, test := range []struct {
		name string
		tree map[string]string
		do   string
		// at is where envd is put, files what is there afterwards by path.
		at    []string
		files map[string]string
	}{
		{"plain", plain, "", []string{"/usr/bin/envd"}, nil},
		{"merged usr, and a link in the place of init", merged, "", []string{"/usr/bin/envd"}, map[string]string{
			"/usr/sbin/init": "regular 755 0:0 ", "/sbin": "symlink 777 0:0 usr/sbin", "/usr/lib/systemd/systemd": "regular 644 0:0 ",
		}},
		{"absolute links, one after the other", map[string]string{
			"sbin": "-> /one", "one": "-> ./two", "two": "-> /usr/../real/sbin/.", "usr/x": "x", "real/sbin/init": "old", "usr/bin/envd": "old",
		}, "", []string{"/usr/bin/envd"}, map[string]string{"/real/sbin/init": "regular 755 0:0 "}},
		{"links that would leave the root", map[string]string{"sbin": "-> ../../../usr/sbin", "usr/sbin/init": "old", "usr/bin/x": "x"}, "", []string{"/usr/bin/envd"}, nil},
		{"no init yet", map[string]string{"sbin/x": "x", "usr/bin/envd": "old"}, "", []string{"/usr/bin/envd"}, nil},
		{"envd in usr/local", map[string]string{"sbin/init": "old", "usr/bin/x": "x", "usr/local/bin/envd": "old"}, "", []string{"/usr/local/bin/envd"}, nil},
		{
			"two envds, one of them a link",
			map[string]string{"sbin/init": "old", "usr/bin/envd": "-> ../local/bin/envd", "usr/local/bin/envd": "old"},
			"",
			[]string{"/usr/bin/envd", "/usr/local/bin/envd"},
			nil,
		},
		{"no envd", map[string]string{"sbin/init": "old", "usr/bin/x": "x"}, "", []string{"/usr/bin/envd"}, nil},
		{
			"an owner, a mode and a second link", plain, "sif /sbin/init uid 1000\nsif /sbin/init mode 0104600\nln sbin/init second\nsif /sbin/init links_count 2\n",
			[]string{"/usr/bin/envd"},
			map[string]string{"/second": "regular 4600 1000:0 "},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, with := rootFS(t, test.tree, test.do), hostFiles(t)
			before, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			copied, at, err := Replace(t.Context(), image, with)
			if err != nil {
				t.Fatal(err)
			}
			defer copied.Close()
			if want := append([]string{initPath}, test.at...); !slices.Equal(at, want) {
				t.Errorf("replaced %v, want %v", at, want)
			}
			for name, want := range test.files {
				if got := inside(t, copied, name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			// The kernel would find the same: init over its links.
			e := editor{copied}
			for name, path := range map[string]string{initPath: with.Init, test.at[0]: with.Envd} {
				dir, err := e.directory(t.Context(), filepath.Dir(name))
				if err != nil {
					t.Fatal(err)
				}
				host, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.readBack(t.Context(), dir, filepath.Base(name), host); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				host.Close()
			}
			if after, err := os.ReadFile(image); err != nil || string(after) != string(before) {
				t.Errorf("the image itself was changed: %v", err)
			}
			if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", copied.Fd())); err != nil || !strings.HasSuffix(name, " (deleted)") {
				t.Errorf("the copy has the name %q, %v", name, err)
			}
		})
	}
}

// What cannot be replaced is said, and leaves nothing.
func TestReplaceRefuses(t *testing.T) {
	plain := map[string]string{"sbin/init": "old", "usr/bin/envd": "old"}
	full := hostFiles(t)
	// Zeros would become a hole.
	if err := os.WriteFile(full.Envd, bytes.Repeat([]byte("envd"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		tree map[string]string
		do   string
		with Replacements
		want string
	}{
		{"no room", plain, "", full, "/usr/bin/envd was not written as it should be, maybe because the image has no room"},
		{"a circle", map[string]string{"sbin": "-> bins", "bins": "-> sbin"}, "", hostFiles(t), "cannot be followed"},
		{"a file as a directory", map[string]string{"sbin": "text"}, "", hostFiles(t), "cannot be followed in the image: sbin is a regular"},
		{"no directory", map[string]string{"bin/x": "x"}, "", hostFiles(t), "/sbin: the image has no such file"},
		{"a directory as init", map[string]string{"sbin/init/x": "x"}, "", hostFiles(t), "/sbin/init is a directory in the image"},
		{"a link with requests in it", map[string]string{"sbin": "-> a\nrm usr", "usr/x": "x"}, "", hostFiles(t), "cannot be followed"},
		{"a link with quotes in it", map[string]string{"sbin": `-> a" "b`}, "", hostFiles(t), "which is not followed"},
		{"a link with a number in it", map[string]string{"sbin": "-> <2>"}, "", hostFiles(t), "which is not followed"},
		{"a broken file system", plain, "clri <2>\n", hostFiles(t), "has errors before anything is replaced"},
		{"a journal to be replayed and a broken file system", plain, "jo\njw -b 2000 /dev/zero\njc\nclri <2>\n", hostFiles(t), "has errors before anything is replaced"},
		{"no such file", plain, "", Replacements{Init: "/none/init"}, "the replacement of /sbin/init: open /none/init"},
		{"a directory of the host's", plain, "", Replacements{Envd: os.TempDir()}, "is no regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			image := rootFS(t, test.tree, test.do)
			copied, at, err := Replace(t.Context(), image, test.with)
			if err == nil {
				t.Fatalf("replaced %v in %s", at, copied.Name())
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), image) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Replace(ctx, rootFS(t, plain, ""), hostFiles(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// A journal that was not replayed would undo the replacement at the mount.
func TestReplaceReplaysTheJournal(t *testing.T) {
	// debugfs writes into the journal what a kernel had not yet written to its
	// place: block 2000, which nothing uses, full of the host file's bytes.
	image := rootFS(t, map[string]string{"sbin/init": "old", "usr/bin/envd": "old"}, "jo\njw -b 2000 /dev/zero\njc\n")
	e := editor{}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e.image = f
	features := func(e editor) string {
		text, err := e.run(t.Context(), "debugfs", "-R", "features")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if text := features(e); !strings.Contains(text, "needs_recovery") {
		t.Fatalf("the journal is clean: %s", text)
	}
	copied, _, err := Replace(t.Context(), image, hostFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if text := features(editor{copied}); strings.Contains(text, "needs_recovery") {
		t.Errorf("the journal waits to be replayed: %s", text)
	}
	if text := features(e); !strings.Contains(text, "needs_recovery") {
		t.Errorf("the image itself was changed: %s", text)
	}
}

const stat = `debugfs: stat sbin
Inode: 307   Type: symlink    Mode:  0777   Flags: 0x0
Generation: 0    Version: 0x00000000:00000000
User:     0   Group:    43   Project:     0   Size: 8
Fast link dest: "usr/sbin"
`

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       inode
		wrong      bool
	}{
		{"a link", stat, inode{307, "symlink", "777", "0:43", "usr/sbin", 8}, false},
		{"a file", strings.Replace(stat, "symlink", "regular", 1), inode{307, "regular", "777", "0:43", "", 8}, false},
		{"a kind of two words", strings.Replace(stat, "symlink", "character special", 1), inode{307, "character special", "777", "0:43", "", 8}, false},
		{"a long link, whose target is elsewhere", strings.Replace(stat, "Fast", "Slow", 1), inode{307, "symlink", "777", "0:43", "", 8}, false},
		{"nothing", "", inode{}, true},
		{"no owner", strings.Replace(stat, "User", "", 1), inode{}, true},
		{"a number that is none", strings.Replace(stat, "307", strings.Repeat("9", 40), 1), inode{}, true},
	} {
		got, err := parseStat(test.text)
		if got != test.want || (err != nil) != test.wrong {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(stat)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseStat(text); err == nil && (got.number < 0 || got.kind == "" || !strings.Contains(text, got.target)) {
			t.Errorf("%+v of %q", got, text)
		}
	})
}
