package logscan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Nomad is the log of one task of a Nomad job over all of its allocations,
// read through Nomad's HTTP API. It takes three calls, so Nomad's own client is
// not used: job/ID/allocations, client/fs/ls and client/fs/readat, which reads
// exact ranges. client/fs/logs is not fit: its offsets count over the files
// that are there, and shift when the oldest is removed (hashicorp/nomad#11655).
//
// Other than on a disk no file can be held: one that is removed before it was
// read is a hole.
type Nomad struct {
	// Address, such as http://127.0.0.1:4646, Token, Namespace and Region are
	// what Nomad's command line takes from NOMAD_ADDR, NOMAD_TOKEN,
	// NOMAD_NAMESPACE and NOMAD_REGION. The token needs read-job and read-fs.
	Address, Token, Namespace, Region string
	// Job is the job's ID, Task the task's name.
	Job, Task string
	// Settle and Poll are as in Files, Timeout bounds one request.
	Settle, Poll, Timeout time.Duration
}

// Name implements Source.
func (n Nomad) Name() string {
	return fmt.Sprintf("Nomad job %s at %s, %s.{stdout,stderr}.N", n.Job, n.Address, n.Task)
}

// Open implements Source.
func (n Nomad) Open(ctx context.Context) (Stretch, error) {
	header := http.Header{}
	if n.Token != "" {
		header.Set("X-Nomad-Token", n.Token)
	}
	return mark(ctx, &nomadPlace{
		source: n, server: newEndpoint(n.Timeout, header), sizes: map[string]int64{}, shed: map[string]bool{},
	}, n.Settle, n.Poll, false)
}

// nomadPlace is the files of a Nomad job.
type nomadPlace struct {
	source Nomad
	server endpoint

	mu    sync.Mutex
	sizes map[string]int64 // of the last look, by path
	// shed are the allocations that had ended at the first look: they write no
	// more, and Nomad may remove their files at any time.
	shed   map[string]bool
	looked bool
}

// Name implements place.
func (p *nomadPlace) Name() string { return p.source.Name() }

// The states of an allocation on its client (hashicorp/nomad,
// nomad/structs, AllocClientStatus).
const (
	allocPending  = "pending"
	allocComplete = "complete"
	allocFailed   = "failed"
	allocLost     = "lost"
)

type allocation struct {
	ID           string
	ClientStatus string
}

func (a allocation) ended() bool {
	return a.ClientStatus == allocComplete || a.ClientStatus == allocFailed || a.ClientStatus == allocLost
}

// list implements place.
func (p *nomadPlace) list(ctx context.Context) ([]logFile, error) {
	var allocations []allocation
	if err := p.ask(ctx, &allocations, nil, "job", p.source.Job, "allocations"); err != nil {
		return nil, fmt.Errorf("list the allocations of Nomad job %s: %w", p.source.Job, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.looked {
		for _, a := range allocations {
			p.shed[a.ID] = a.ended()
		}
	}
	var files []logFile
	sizes := map[string]int64{}
	for _, a := range allocations {
		if p.shed[a.ID] {
			continue
		}
		var entries []struct {
			Name, FileMode string
			Size           int64
		}
		err := p.ask(ctx, &entries, url.Values{"path": {logDirectory}}, "client", "fs", "ls", a.ID)
		if a.ClientStatus == allocPending && err != nil {
			continue // its directory is not made yet, so nothing was logged
		}
		if err != nil {
			return nil, fmt.Errorf("list the logs of allocation %s (%s): %w", a.ID, a.ClientStatus, err)
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
	return files, nil
}

// logDirectory is where logs lie in an allocation.
const logDirectory = "alloc/logs"

// ask makes one call and decodes its answer.
func (p *nomadPlace) ask(ctx context.Context, into any, query url.Values, call ...string) error {
	body, err := p.call(ctx, query, call...)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	return json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into)
}

func (p *nomadPlace) call(ctx context.Context, query url.Values, call ...string) (io.ReadCloser, error) {
	parts := make([]string, len(call))
	for i, part := range call {
		parts[i] = url.PathEscape(part)
	}
	address := strings.TrimSuffix(p.source.Address, "/") + "/v1/" + strings.Join(parts, "/")
	asked := url.Values{}
	maps.Copy(asked, query)
	for key, value := range map[string]string{"namespace": p.source.Namespace, "region": p.source.Region} {
		if value != "" {
			asked.Set(key, value)
		}
	}
	if len(asked) > 0 {
		address += "?" + asked.Encode()
	}
	return p.server.get(ctx, address)
}

// open implements place.
func (p *nomadPlace) open(ctx context.Context, f logFile) (opened, error) {
	alloc, name, _ := strings.Cut(f.path, "/")
	// A read belongs to the window and not to the call in which the file was
	// found; each is bounded by the client.
	ctx = context.WithoutCancel(ctx)
	file := &nomadFile{place: p, path: f.path, read: func(data []byte, offset int64) (int, error) {
		body, err := p.call(ctx, url.Values{
			"path": {name}, "offset": {strconv.FormatInt(offset, 10)}, "limit": {strconv.Itoa(len(data))},
		}, "client", "fs", "readat", alloc)
		if err != nil {
			return 0, err
		}
		defer func() { _ = body.Close() }()
		n, err := io.ReadFull(body, data)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return n, err
	}}
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
func (f *nomadFile) follow(int64) *follower { return nil }

// Close implements io.Closer; nothing is held.
func (f *nomadFile) Close() error { return nil }
