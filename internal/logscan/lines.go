package logscan

import "bytes"

// maxLine bounds one line, in bytes; what exceeds it is dropped and the line
// is marked. Older envd print what users' processes say on the guest's console,
// up to 96 KiB in one line (e2b-dev/infra packages/envd/internal/logs,
// LogBufferedDataEvents), and escape what is no text: six bytes for each, seven
// where the orchestrator's log is JSON. The fields, which tell whose line it is,
// come after that.
const maxLine = 1 << 20

// line is one line of a stream of files. Its data is valid during the call that
// hands it out.
type line struct {
	data   []byte
	source string
	offset int64 // of the line's beginning, in its source
	// oversize: the line was longer than maxLine; partial: it has no end yet.
	oversize, partial bool
}

// splitter cuts the bytes of consecutive files into lines, wherever they are
// cut into chunks. A line may begin in one file and end in the next.
type splitter struct {
	emit func(line)
	open line
	any  bool // the open line has begun
}

// feed takes a chunk of one file at an offset.
func (s *splitter) feed(source string, offset int64, chunk []byte) {
	for len(chunk) > 0 {
		if !s.any {
			s.open, s.any = line{source: source, offset: offset}, true
		}
		end := bytes.IndexByte(chunk, '\n')
		piece := chunk
		if end >= 0 {
			piece = chunk[:end]
		}
		if end >= 0 && len(s.open.data) == 0 && len(piece) <= maxLine {
			// It lies in this chunk whole, as nearly every line does.
			s.open.data = piece
			s.emit(s.open)
			s.any = false
			chunk = chunk[end+1:]
			offset += int64(end) + 1
			continue
		}
		if room := maxLine - len(s.open.data); len(piece) > room {
			s.open.oversize = true
			s.open.data = append(s.open.data, piece[:room]...)
		} else {
			s.open.data = append(s.open.data, piece...)
		}
		if end < 0 {
			return
		}
		s.emit(s.open)
		s.any = false
		chunk = chunk[end+1:]
		offset += int64(end) + 1
	}
}

// finish hands out the line that has no end.
func (s *splitter) finish() {
	if s.any {
		s.open.partial = true
		s.emit(s.open)
		s.any = false
	}
}
