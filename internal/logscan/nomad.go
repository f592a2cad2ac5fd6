package logscan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/nomad/api"
)

// Nomad is the log of one task of a Nomad job over all of its allocations,
// read through Nomad's HTTP API: job/ID/allocations, client/fs/ls and
// client/fs/readat, which reads exact ranges. client/fs/logs is not fit: its
// offsets count over the files that are there, and shift when the oldest is
// removed (hashicorp/nomad#11655).
//
// Address, token, namespace, region and certificates are those of the NOMAD_
// variables, as for Nomad's own command line. The token needs read-job and
// read-fs.
//
// Other than on a disk no file can be held: one that is removed before it was
// read is a hole.
type Nomad struct {
	// Job is the job's ID, Task the task's name.
	Job, Task string
	// Settle and Poll are as in Files, Timeout bounds one request.
	Settle, Poll, Timeout time.Duration
}

// Name implements Source.
func (n Nomad) Name() string {
	return fmt.Sprintf("Nomad job %s, %s.{stdout,stderr}.N", n.Job, n.Task)
}

// Open implements Source.
func (n Nomad) Open(ctx context.Context) (Stretch, error) {
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("make a client of Nomad (NOMAD_ADDR and the other NOMAD_ variables): %w", err)
	}
	return mark(ctx, &nomadPlace{source: n, client: client, sizes: map[string]int64{}, shed: map[string]bool{}}, n.Settle, n.Poll, false)
}

// nomadPlace is the files of a Nomad job.
type nomadPlace struct {
	source Nomad
	client *api.Client

	mu    sync.Mutex
	sizes map[string]int64 // of the last look, by path
	// shed are the allocations that had ended at the first look: they write no
	// more, and Nomad may remove their files at any time.
	shed   map[string]bool
	looked bool
}

// Name implements place.
func (p *nomadPlace) Name() string { return p.source.Name() }

// ended tells whether an allocation writes no more.
func ended(a *api.AllocationListStub) bool {
	return slices.Contains([]string{api.AllocClientStatusComplete, api.AllocClientStatusFailed, api.AllocClientStatusLost}, a.ClientStatus)
}

// options bound one request; the second result must be called when its answer
// was read.
func (p *nomadPlace) options(ctx context.Context) (*api.QueryOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, p.source.Timeout)
	return (&api.QueryOptions{}).WithContext(ctx), cancel
}

// refused adds what to do where Nomad does not allow a call. A file that is gone
// is a bad request to readat, with the words of the system's error; what Nomad
// does not know at all is not found.
func refused(err error) error {
	if e, ok := errors.AsType[api.UnexpectedResponseError](err); ok {
		switch e.StatusCode() {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%w; give a token that may read this (NOMAD_TOKEN, with read-job and read-fs)", err)
		case http.StatusNotFound:
			return errors.Join(err, os.ErrNotExist)
		case http.StatusBadRequest:
			if strings.Contains(e.Body(), syscall.ENOENT.Error()) {
				return errors.Join(err, os.ErrNotExist)
			}
		}
	}
	return err
}

// list implements place.
func (p *nomadPlace) list(ctx context.Context) ([]logFile, error) {
	query, cancel := p.options(ctx)
	allocations, _, err := p.client.Jobs().Allocations(p.source.Job, true, query)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("list the allocations of Nomad job %s: %w", p.source.Job, refused(err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.looked {
		// A job that Nomad does not know is an empty list to it, and no error.
		if len(allocations) == 0 {
			return nil, fmt.Errorf("there is no allocation of Nomad job %s: look at live.nomad.job, and at NOMAD_NAMESPACE and NOMAD_REGION", p.source.Job)
		}
		for _, a := range allocations {
			p.shed[a.ID] = ended(a)
		}
	}
	var files []logFile
	var troubles []error
	sizes := map[string]int64{}
	for _, a := range allocations {
		if p.shed[a.ID] {
			continue
		}
		query, cancel := p.options(ctx)
		entries, _, err := p.client.AllocFS().List(&api.Allocation{ID: a.ID}, logDirectory, query)
		cancel()
		if a.ClientStatus == api.AllocClientStatusPending && err != nil {
			continue // its directory is not made yet, so nothing was logged
		}
		if err != nil {
			// The others' files are worth as much as before.
			troubles = append(troubles, fmt.Errorf("list the logs of allocation %s (%s): %w", a.ID, a.ClientStatus, refused(err)))
			continue
		}
		for _, entry := range entries {
			// A FIFO's mode begins with p, a directory's with d.
			file, ok := logFileOf(path.Join(a.ID, logDirectory), entry.Name, p.source.Task)
			if !ok || !strings.HasPrefix(entry.FileMode, "-") {
				continue
			}
			files = append(files, file)
			sizes[file.path] = entry.Size
		}
	}
	p.sizes, p.looked = sizes, true
	return files, errors.Join(troubles...)
}

// logDirectory is where logs lie in an allocation.
const logDirectory = "alloc/logs"

// open implements place.
func (p *nomadPlace) open(ctx context.Context, f logFile) (opened, error) {
	file := p.file(ctx, f.path)
	size, err := file.size()
	if err != nil {
		return nil, err
	}
	file.head = make([]byte, min(size, headSize))
	if _, err := file.ReadAt(file.head, 0); err != nil {
		return nil, fmt.Errorf("read the beginning of %s: %w", f.path, err)
	}
	return file, nil
}

// file is one file, by its allocation and its path there.
func (p *nomadPlace) file(ctx context.Context, name string) *nomadFile {
	alloc, inAlloc, _ := strings.Cut(name, "/")
	// A read belongs to the window and not to the call in which the file was
	// found; each is bounded by the client.
	ctx = context.WithoutCancel(ctx)
	return &nomadFile{place: p, path: name, read: func(data []byte, offset int64) (int, error) {
		query, cancel := p.options(ctx)
		defer cancel()
		query.Params = map[string]string{"path": inAlloc, "offset": strconv.FormatInt(offset, 10), "limit": strconv.Itoa(len(data))}
		// Not by AllocFS.ReadAt, which asks for the node's address each time and
		// goes there where it can: the server is what was configured.
		body, err := p.client.Raw().Response("/v1/client/fs/readat/"+url.PathEscape(alloc), query)
		if err != nil {
			return 0, refused(err)
		}
		defer func() { _ = body.Close() }()
		n, err := io.ReadFull(body, data)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, err
		}
		return told(data, n, body)
	}}
}

// told is what readat answered, of which n bytes were read into data: the file's
// bytes, or words about them. Nomad 1.6.1 was seen to say with status 200 that a
// file is not there, or that a token may not read it.
func told(data []byte, n int, rest io.Reader) (int, error) {
	const words = 1 << 10
	more := make([]byte, words)
	m, _ := io.ReadFull(rest, more)
	text := strings.ToValidUTF8(string(data[:min(n, words)])+string(more[:m]), "\uFFFD")
	switch {
	case strings.HasPrefix(text, "stat /") && strings.HasSuffix(text, syscall.ENOENT.Error()):
		return 0, fmt.Errorf("Nomad says %q: %w", text, os.ErrNotExist)
	case m > 0 || text == "rpc error: Permission denied":
		return 0, fmt.Errorf("Nomad does not answer with the %d bytes that were asked for, it says %q", len(data), text)
	case n < len(data):
		return n, io.EOF
	}
	return n, nil
}

// headSize is by how much of its beginning a file is known again, in bytes: the
// API tells no inode.
const headSize = 64

// nomadFile is one file behind Nomad's API.
type nomadFile struct {
	place *nomadPlace
	path  string
	read  func(data []byte, offset int64) (int, error)
	head  []byte
}

// ReadAt implements io.ReaderAt.
func (f *nomadFile) ReadAt(data []byte, offset int64) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	return f.read(data, offset)
}

// size implements opened: what the last look told.
func (f *nomadFile) size() (int64, error) {
	f.place.mu.Lock()
	defer f.place.mu.Unlock()
	size, listed := f.place.sizes[f.path]
	if !listed {
		return 0, fmt.Errorf("%s is listed no more: it was removed, or its allocation was collected: %w", f.path, os.ErrNotExist)
	}
	return size, nil
}

// replaced implements opened.
func (f *nomadFile) replaced() (bool, error) {
	now := make([]byte, len(f.head))
	_, err := f.ReadAt(now, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return string(now) != string(f.head), nil
}

// follow implements opened: the API gives no live view that loses nothing, and
// the poll sees what grows.
func (f *nomadFile) follow(int64, func(string)) *follower { return nil }

// Close implements io.Closer; nothing is held.
func (f *nomadFile) Close() error { return nil }
