package rundir

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gofrs/flock"

	"sandproof/internal/redact"
)

// mergeProcess stands where a record's process does, for what the merging
// itself has to say: no suite process has that number.
const mergeProcess = 0

// MergeRuns makes one run directory of the run directories of shards. What
// does not belong together is refused; the templates of a shard that is not
// there are expected all the same, and a note says why nothing is known of
// them. The directory appears whole or not at all: a merging that is killed
// leaves a hidden directory beside it, which the next one removes. The redactor
// takes secrets out of what the merging itself writes.
func MergeRuns(ctx context.Context, into string, dirs []string, redactor *redact.Redactor) (*Run, error) {
	shards, err := openShards(dirs, redactor)
	if err != nil {
		return nil, err
	}
	if into, err = filepath.Abs(into); err != nil {
		return nil, err
	}
	root, name := filepath.Split(into)
	if !validName().MatchString(name) || name == latestLink {
		return nil, fmt.Errorf("%s: use up to 100 letters, digits, '.', '_' and '-' for the name of a run, beginning with a letter or digit", into)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for runs: %w", err)
	}
	lock := flock.New(filepath.Join(root, "."+name+".merge.lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", into, err)
	case !locked:
		return nil, fmt.Errorf("another process is merging into %s: wait for it", into)
	}
	defer func() { _ = errors.Join(os.Remove(lock.Path()), lock.Unlock()) }()
	if _, err := os.Lstat(into); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s exists already: merge into another directory, or remove it", into)
	}
	half := filepath.Join(root, "."+name+".merging")
	if err := os.RemoveAll(half); err != nil {
		return nil, fmt.Errorf("remove what an earlier merging left: %w", err)
	}
	if err := fill(ctx, half, name, shards); err != nil {
		return nil, errors.Join(fmt.Errorf("merge into %s: %w", into, err), os.RemoveAll(half))
	}
	if err := os.Rename(half, into); err != nil {
		return nil, errors.Join(fmt.Errorf("merge into %s: %w", into, err), os.RemoveAll(half))
	}
	return Open(into, redactor)
}

// openShards opens the shards, by their numbers, and looks that they belong
// together.
func openShards(dirs []string, redactor *redact.Redactor) ([]*Run, error) {
	if len(dirs) == 0 {
		return nil, errors.New("no run directory to merge: not one shard left any")
	}
	shards := make([]*Run, 0, len(dirs))
	for _, dir := range dirs {
		run, err := Open(dir, redactor)
		if err != nil {
			return nil, err
		}
		if err := run.isShard(); err != nil {
			return nil, err
		}
		for _, other := range shards {
			if err := other.belongs(run); err != nil {
				return nil, err
			}
		}
		shards = append(shards, run)
	}
	slices.SortFunc(shards, func(a, b *Run) int { return cmp.Compare(a.Manifest.Shard.Number, b.Manifest.Shard.Number) })
	return shards, oneBuildEach(shards)
}

// oneBuildEach refuses shards that were given different builds of a template,
// which it may have under several names.
func oneBuildEach(shards []*Run) error {
	type seen struct{ build, by string }
	builds := map[string]seen{}
	for _, run := range shards {
		all, err := run.Evidence()
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.API == nil || s.API.TemplateID == "" || s.API.BuildID == "" {
				continue
			}
			by := fmt.Sprintf("shard %s (template %s)", run.Manifest.Shard, s.Template)
			if first, ok := builds[s.API.TemplateID]; ok && first.build != s.API.BuildID && first.by != by {
				return fmt.Errorf("template %s was build %s for %s and build %s for %s: it was rebuilt between them, so run these shards again",
					s.API.TemplateID, first.build, first.by, s.API.BuildID, by)
			}
			builds[s.API.TemplateID] = seen{s.API.BuildID, by}
		}
	}
	return nil
}

// fill writes the merged run.
func fill(ctx context.Context, dir, name string, shards []*Run) error {
	m := shards[0].Manifest
	m.Run, m.Templates, m.Shard, m.Shards, m.Command = name, m.Shard.Expected, nil, parts(shards), os.Args
	for _, shard := range shards {
		if shard.Manifest.Started.Before(m.Started) {
			m.Started = shard.Manifest.Started
		}
	}
	for _, sub := range []string{recordsDir, evidenceDir, artifactsDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	merged := &Run{Dir: dir, Manifest: m, redact: shards[0].redact}
	for _, shard := range shards {
		if err := merged.take(ctx, shard); err != nil {
			return fmt.Errorf("shard %s: %w", shard.Manifest.Shard, err)
		}
	}
	if err := merged.noteShards(shards); err != nil {
		return err
	}
	effective, err := os.ReadFile(filepath.Join(shards[0].Dir, configFile))
	if err != nil {
		return err
	}
	if err := merged.write(configFile, withoutShard(effective)); err != nil {
		return err
	}
	return merged.writeJSON(manifestFile, m)
}

// take copies what a shard recorded. Its own configuration and manifest lie
// with its artifacts.
func (r *Run) take(ctx context.Context, shard *Run) error {
	of := fmt.Sprintf("shard-%d", shard.Manifest.Shard.Number)
	records, err := shard.recordFiles()
	if err != nil {
		return err
	}
	for _, file := range records {
		to := strings.Replace(filepath.Base(file), "process-", "process-"+of+"-", 1)
		if err := copyFile(file, filepath.Join(r.Dir, recordsDir, to)); err != nil {
			return err
		}
	}
	for _, sandbox := range shard.Manifest.names() {
		file := filepath.Join(evidenceDir, slug(sandbox)+".json")
		if err := copyFile(filepath.Join(shard.Dir, file), filepath.Join(r.Dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	artifacts := filepath.Join(r.Dir, artifactsDir, of)
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return err
	}
	// Who carries runs about may drop directories with nothing in them.
	if err := copyTree(ctx, shard.Artifacts(), artifacts); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{manifestFile, configFile} {
		if err := copyFile(filepath.Join(shard.Dir, name), filepath.Join(artifacts, name)); err != nil {
			return err
		}
	}
	return nil
}

// noteShards records what only the single directories tell: which shards are
// not there, which recorded nothing, and trouble that a shard's own gate saw
// and no record has, such as an exit code of Ginkgo that nothing explains.
func (r *Run) noteShards(shards []*Run) error {
	recorder, err := r.Recorder(mergeProcess, redact.New())
	if err != nil {
		return err
	}
	return errors.Join(r.note(recorder, shards), recorder.Close())
}

func (r *Run) note(recorder *Recorder, shards []*Run) error {
	for _, part := range r.Manifest.Shards {
		if !part.Missing {
			continue
		}
		err := recorder.Record(Record{Note: fmt.Sprintf("shard %s is not there: nothing is known of %s; run that shard (SHARD=%s) and merge again",
			part.Shard, strings.Join(part.Templates, ", "), part.Shard)})
		if err != nil {
			return err
		}
	}
	for _, shard := range shards {
		problems, err := shard.ownProblems()
		if err != nil {
			return err
		}
		for _, problem := range problems {
			if err := recorder.Record(Record{Problem: fmt.Sprintf("shard %s: %s", shard.Manifest.Shard, problem)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownProblems are the problems of a run that its records, merged with others,
// would not show again.
func (r *Run) ownProblems() ([]string, error) {
	merged, err := r.Merge()
	if err != nil {
		return nil, err
	}
	return merged.Problems[merged.ofRecords:], nil
}

// withoutShard is an effective configuration of all shards.
func withoutShard(effective []byte) []byte {
	var whole bytes.Buffer
	lines := bufio.NewReader(bytes.NewReader(effective))
	for {
		line, err := lines.ReadString('\n')
		if !strings.HasPrefix(line, "shard: ") {
			whole.WriteString(line)
		}
		if err != nil {
			return whole.Bytes()
		}
	}
}

// copyTree copies directories and regular files; what else lies there is
// nobody's evidence.
func copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch target := filepath.Join(to, relative); {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case entry.Type().IsRegular():
			return copyFile(path, target)
		}
		return nil
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
