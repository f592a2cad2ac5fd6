package evidence

import "time"

// Disk is what the configured storage holds of the build that the sandbox is
// of, read on the host and not in the guest.
type Disk struct {
	// Build is the build's ID, Image the path of its root file system.
	Build string `json:"build"`
	Image string `json:"image,omitempty"`
	// Changed is when the image was last written, or put in its place.
	Changed time.Time `json:"changed,omitzero"`
	// Init is the program that the image boots with; nil where it could not be
	// read, for the reason in Unreadable.
	Init       *DiskFile `json:"init,omitempty"`
	Unreadable string    `json:"unreadable,omitempty"`
	// Missing says why the storage, which can be read, has no such build.
	Missing string `json:"missing,omitempty"`
	// Patched is the version of sandproof's delegation in it, 0 for none.
	Patched int `json:"patched,omitempty"`
	// DropIns are what the image adds to envd's unit, by path in the image.
	DropIns []string `json:"dropIns,omitempty"`
	// Snapshots are the files of a guest's memory beside the image and in the
	// caches, from which sandboxes resume.
	Snapshots []string `json:"snapshots,omitempty"`
}

// DiskFile is a file of an image.
type DiskFile struct {
	// Path is where it was looked for, Real where links within the image lead.
	Path   string `json:"path"`
	Real   string `json:"real,omitempty"`
	SHA256 string `json:"sha256"`
}
