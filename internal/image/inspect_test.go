package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\nmail:x:8:8::/:/bin/false\n"

// unitText is E2B's unit, as far as it goes (e2b-dev/infra c7180fe2c).
const unitText = "[Unit]\nDelegate=no\n[Service]\nType=simple\n# Delegate=no\nOOMScoreAdjust=-1000\nExecStart=/bin/bash -l -c \\\n \"/usr/bin/envd\"\nDelegate=yes\nMemoryMin=50M\nCPUWeight=1000\n"

const elf = "\x7fELF\x02 no real one"

// with adds files to a tree.
func with(tree map[string]string, more map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{tree, more} {
		maps.Copy(all, m)
	}
	return all
}

// programs makes requests that make files of a tree executable.
func programs(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString("sif " + name + " mode 0100755\n")
	}
	return b.String()
}

func inspectFile(tb testing.TB, name string) *Inventory {
	tb.Helper()
	build, err := Locate(name, Storage{})
	if err != nil {
		tb.Fatal(err)
	}
	inv, err := Inspect(tb.Context(), build)
	if err != nil {
		tb.Fatal(err)
	}
	return inv
}

func foundIn(inv *Inventory) []string {
	var ids []string
	for _, f := range Lint(inv) {
		ids = append(ids, f.ID)
	}
	return ids
}

// Real images, and what is found wrong with them.
func TestInspect(t *testing.T) {
	base := map[string]string{"etc/passwd": passwd, "bin/sh": elf, "bin/busybox": elf, "usr/bin/socat": elf, "usr/bin/envd": elf, "usr/bin/nice": "-> /bin/busybox"}
	run := programs("bin/sh", "bin/busybox", "usr/bin/socat", "usr/bin/envd")
	always := "envd-unknown" // no real envd is at hand
	systemd := with(base, map[string]string{
		"sbin": "-> usr/sbin", "usr/sbin/init": "-> ../lib/systemd/systemd", "usr/lib/systemd/systemd": elf, "etc/systemd/system/envd.service": unitText,
		"etc/systemd/system/multi-user.target.wants/envd.service": "-> ../envd.service",
	})
	for _, test := range []struct {
		name string
		tree map[string]string
		do   string
		kind InitKind
		real string
		want []string
	}{
		{"a good script", with(base, map[string]string{"sbin/init": goodInit}), run + programs("sbin/init"), InitScript, "/sbin/init", nil},
		{"not executable", with(base, map[string]string{"sbin/init": goodInit}), run, InitScript, "/sbin/init", []string{"init-not-executable"}},
		{"CR LF", with(base, map[string]string{"sbin/init": strings.ReplaceAll(goodInit, "\n", "\r\n")}), run + programs("sbin/init"), InitScript, "/sbin/init", []string{"init-interpreter", "init-crlf"}},
		{"no newline", with(base, map[string]string{"sbin/init": strings.TrimSpace(goodInit)}), run + programs("sbin/init"), InitScript, "/sbin/init", []string{"init-no-newline"}},
		{"broken grammar", with(base, map[string]string{"sbin/init": "#!/bin/sh\nif true\n"}), run + programs("sbin/init"), InitScript, "/sbin/init", []string{"init-syntax"}},
		{"python", with(base, map[string]string{"sbin/init": "#!/bin/python3 -u\nimport os\n"}), run + programs("sbin/init"), InitScript, "/sbin/init", []string{"init-interpreter", "init-not-read"}},
		{"an absolute link", with(base, map[string]string{"sbin/init": "-> /etc/my-init", "etc/my-init": goodInit}), run + programs("etc/my-init"), InitScript, "/etc/my-init", []string{"init-symlink"}},
		{"a long link", with(base, map[string]string{"sbin/init": "-> /" + strings.Repeat("./", 60) + "etc/my-init", "etc/my-init": goodInit}), run + programs("etc/my-init"), InitScript, "/etc/my-init", []string{"init-symlink"}},
		{"a linked directory and ..", with(base, map[string]string{"sbin": "-> a/../usr/sbin", "a": "-> /usr/x", "usr/x/y": "", "usr/usr/sbin/init": goodInit, "usr/sbin/init": "wrong"}), run + programs("usr/usr/sbin/init"), InitScript, "/usr/usr/sbin/init", nil},
		{"no init", base, run, InitMissing, "/sbin", []string{"init-missing"}},
		{"a dangling link", with(base, map[string]string{"sbin/init": "-> /nowhere/init"}), run, InitMissing, "/nowhere", []string{"init-missing"}},
		{"a circle", with(base, map[string]string{"sbin/init": "-> other", "sbin/other": "-> init"}), run, InitMissing, "", []string{"init-missing"}},
		{"a link with requests in it", with(base, map[string]string{"sbin/init": "-> a\nrm usr", "usr/x": "x"}), run, InitMissing, "", []string{"init-missing"}},
		{"a link that forges an answer", with(base, map[string]string{"sbin/init": "-> x\"\nInode: 2 Type: regular Mode: 0755 \n\""}), run, InitMissing, "", []string{"init-missing"}},
		{"a directory", with(base, map[string]string{"sbin/init/x": ""}), run, InitDirectory, "/sbin/init", []string{"init-no-file"}},
		{"an empty file", with(base, map[string]string{"sbin/init": ""}), run + programs("sbin/init"), InitOther, "/sbin/init", []string{"init-no-program"}},
		{"a binary", with(base, map[string]string{"sbin/init": elf}), run + programs("sbin/init"), InitBinary, "/sbin/init", []string{"init-binary"}},
		{"busybox", with(base, map[string]string{"sbin/init": "-> /bin/busybox"}), run, InitBusybox, "/bin/busybox", []string{"init-binary"}},
		{"OpenRC", with(base, map[string]string{"sbin/init": "-> /bin/busybox", "sbin/openrc": elf, "etc/init.d/envd": "x", "etc/runlevels/default/envd": "-> /etc/init.d/envd"}), run + programs("sbin/openrc"), InitOpenRC, "/bin/busybox", []string{"openrc-no-cgroups"}},
		{"systemd", systemd, run + programs("usr/lib/systemd/systemd"), InitSystemd, "/usr/lib/systemd/systemd", nil},
		{"systemd and a drop-in", with(systemd, map[string]string{"etc/systemd/system/envd.service.d/50-x.conf": "[Service]\nDelegate=no\nCPUWeight=\n"}), run + programs("usr/lib/systemd/systemd"), InitSystemd, "/usr/lib/systemd/systemd", []string{"unit-thinned"}},
		{"systemd and a masked unit", with(systemd, map[string]string{"etc/systemd/system/envd.service": "-> /dev/null"}), run + programs("usr/lib/systemd/systemd"), InitSystemd, "/usr/lib/systemd/systemd", []string{"unit-missing"}},
		{"fstab mounts it", with(base, map[string]string{"sbin/init": strings.Replace(goodInit, goodMount, "mount -a\n", 1), "etc/fstab": "# x\nnone /sys/fs/cgroup cgroup2 defaults 0 0\n"}), run + programs("sbin/init"), InitScript, "/sbin/init", nil},
		{"fstab does not", with(base, map[string]string{"sbin/init": strings.Replace(goodInit, goodMount, "mount -a\n", 1)}), run + programs("sbin/init"), InitScript, "/sbin/init", []string{"cgroup2-not-mounted"}},
		{"a dirty journal", with(base, map[string]string{"sbin/init": goodInit}), run + programs("sbin/init") + "jo\njw -b 2000 /dev/zero\njc\n", InitScript, "/sbin/init", []string{"journal-dirty"}},
		{"errors", with(base, map[string]string{"sbin/init": goodInit}), run + programs("sbin/init") + "ssv state 2\n", InitScript, "/sbin/init", []string{"file-system-errors"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := rootFS(t, test.tree, test.do)
			before := state(t, name)
			inv := inspectFile(t, name)
			if after := state(t, name); after != before {
				t.Errorf("the image was changed: %s, then %s", before, after)
			}
			if inv.Unreadable != "" {
				t.Fatal(inv.Unreadable)
			}
			if inv.Init.InitKind != test.kind || inv.Init.Real != test.real {
				t.Errorf("the init is %q at %q: %+v", inv.Init.InitKind, inv.Init.Real, inv.Init)
			}
			if got, want := foundIn(inv), append(slices.Clone(test.want), always); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}
			if len(inv.Users) != 2 || inv.Users[1] != (User{"user", 1000, "/home/user", "/bin/bash"}) {
				t.Errorf("users: %+v", inv.Users)
			}
			if i := slices.IndexFunc(inv.Tools, func(t Tool) bool { return t.Name == "nice" }); !inv.Tools[i].Busybox {
				t.Errorf("nice: %+v", inv.Tools[i])
			}
			if _, err := json.Marshal(inv); err != nil {
				t.Error(err)
			}
		})
	}
}

// state is what must not change about a file.
func state(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return string(hash.Sum(nil)) + info.ModTime().String() + info.Mode().String()
}

// E2B makes its images with inline_data and without 64bit and dir_index: small
// files lie within their inodes, and what debugfs prints of them is longer
// than they are.
func TestInspectOfInlineData(t *testing.T) {
	tree := map[string]string{"etc/passwd": passwd, "sbin/init": "#!/bin/sh\n/usr/bin/envd &\n", "usr/bin/envd": elf, "etc/long": "-> /" + strings.Repeat("./", 60) + "sbin/init", "bin/sh": elf}
	root := filepath.Join(t.TempDir(), "root")
	for name, text := range tree {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "rootfs.ext4")
	mke2fs(t, name, "8M", "-t", "ext4", "-O", "inline_data,^64bit,^dir_index", "-d", root)
	inv := inspectFile(t, name)
	if inv.Unreadable != "" || !slices.Contains(inv.FileSystem.Features, "inline_data") || slices.Contains(inv.FileSystem.Features, "64bit") {
		t.Fatalf("%s: %+v", inv.Unreadable, inv.FileSystem)
	}
	if got := inv.Init.Script.Text(); got != tree["sbin/init"] {
		t.Errorf("the script is %q", got)
	}
	if want := []string{"cgroup2-not-mounted", "never-enabled", "no-console", "envd-unknown", "socat-missing"}; !slices.Equal(foundIn(inv), want) {
		t.Errorf("found %v, want %v", foundIn(inv), want)
	}
}

// What lies beside an image counts, and an image of which nothing can be read
// is no error.
func TestInspectOfBuilds(t *testing.T) {
	ext4 := rootFS(t, map[string]string{"sbin/init": goodInit}, "")
	data, err := os.ReadFile(ext4)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		image   []byte
		beside  map[string]string
		want    []string
		problem string
	}{
		{"a diff layer", []byte("no file system"), map[string]string{"rootfs.ext4.header": "x"}, []string{"diff-layer"}, "changes only"},
		{"no file system", make([]byte, 8192), nil, []string{"not-ext4"}, "no ext4"},
		{"empty", nil, nil, []string{"not-ext4"}, "is empty"},
		{"truncated", data[:len(data)-1024], nil, []string{"truncated"}, "cut short"},
		{"a broken superblock", slices.Concat(data[:1024+0x18], []byte{0xff}, data[1024+0x19:]), nil, []string{"not-ext4"}, "damaged"},
		{"a broken checksum", slices.Concat(data[:1024+0x78], []byte("Y"), data[1024+0x79:]), nil, []string{"unreadable"}, "Checksum errors"},
		{"a snapshot and metadata", data[:len(data)-1024], map[string]string{"memfile": "x", "snapfile": "x", "metadata.json": "[1"}, []string{"truncated", "snapshot-beside", "metadata-unreadable"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"rootfs.ext4": string(test.image)}
			for name, text := range with(files, test.beside) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400); err != nil {
					t.Fatal(err)
				}
			}
			inv := inspectFile(t, dir)
			if got := foundIn(inv); !slices.Equal(got, test.want) || !strings.Contains(inv.Unreadable, test.problem) {
				t.Errorf("found %v, want %v; %s", got, test.want, inv.Unreadable)
			}
		})
	}
}

func TestReadMetadata(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, text string
		want       Metadata
	}{
		{"E2B's", `{"version":2,"template":{"build_id":"b","kernel_version":"vmlinux-6.1.158","firecracker_version":"v1"},"filesystem_only":true}`, Metadata{BuildID: "b", KernelVersion: "vmlinux-6.1.158", FirecrackerVersion: "v1", FilesystemOnly: true}},
		{"a hand's", `{"templateID":"t","buildId":"b","envdVersion":"0.2.0","template":{"buildID":"inner"}}`, Metadata{TemplateID: "t", BuildID: "b", EnvdVersion: "0.2.0"}},
		{"of another kind", `["buildID"]`, Metadata{}},
		{"with other types", `{"buildID":3,"envdVersion":{"x":1},"filesystemOnly":"yes"}`, Metadata{}},
		{"none", `{`, Metadata{Problem: "unexpected end of JSON input"}},
		{"far too deep", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), Metadata{Problem: "exceeded max depth"}},
		{"too long", `{"buildID":"` + strings.Repeat("x", maxMetadata) + `"}`, Metadata{Problem: "it has more than"}},
	} {
		name := filepath.Join(dir, test.name)
		if err := os.WriteFile(name, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := readMetadata(name)
		if !strings.Contains(got.Problem, test.want.Problem) || test.want.Problem == "" && got.Problem != "" {
			t.Errorf("%s: %s", test.name, got.Problem)
		}
		got.Problem, test.want.Problem = "", ""
		if diff := cmp.Diff(test.want, *got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// Without the tools an image cannot be judged, which is trouble and no finding.
func TestInspectGivenUp(t *testing.T) {
	name := rootFS(t, map[string]string{"sbin/init": goodInit}, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if inv, err := Inspect(ctx, Build{RootFS: name}); err == nil {
		t.Errorf("given up, but it returned %+v", inv)
	}
}

// An image of 2 GiB is mostly holes; it must be inspected in under a second.
func BenchmarkInspect(b *testing.B) {
	dir := b.TempDir()
	root := filepath.Join(dir, "root")
	for name, size := range map[string]int64{"sbin/init": 0, "usr/bin/envd": 20 << 20, "usr/lib/data": 1 << 30, "bin/sh": 1 << 20} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(goodInit), 0o755); err != nil {
			b.Fatal(err)
		}
		if size > 0 {
			if err := os.Truncate(path, size); err != nil {
				b.Fatal(err)
			}
		}
	}
	name := filepath.Join(dir, "rootfs.ext4")
	cmd := exec.CommandContext(b.Context(), "/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", root, name, "2G")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for b.Loop() {
		if inv := inspectFile(b, name); inv.Unreadable != "" || inv.Init.InitKind != InitScript {
			b.Fatalf("%+v", inv)
		}
	}
}
