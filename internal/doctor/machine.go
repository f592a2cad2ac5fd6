package doctor

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"sandproof/internal/config"
	"sandproof/internal/fixtures/guestos"
	"sandproof/internal/fixtures/lab"
	"sandproof/internal/fixtures/lab/qemu"
)

// machineHops look at what the lab needs of this machine.
func machineHops(o Options) []hop {
	waits := o.Config.Intervals
	all := toolHops(o)
	return append(all,
		hop{name: "qemu", tried: "ask " + qemu.Binary() + " for its version", wait: waits.Hop, try: func(ctx context.Context, f facts) (Finding, facts) {
			return judgeQEMU(versionOf(ctx, qemu.Binary(), "--version")), f
		}},
		hop{name: "memory", tried: "read /proc/meminfo", wait: waits.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			available, err := availableMemory()
			return judgeMemory(available, err, largestGuest(o), o.Config.Lab.MaxGuests), f
		}},
		hop{name: "disk", tried: "look at the lab's cache", wait: waits.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			store, err := guestos.Open(o.Config.Lab.Cache, func(string) {})
			if err != nil {
				return Finding{State: Trouble, Came: err.Error(), Do: "set lab.cache in ginkgo.yml to a directory that can be written"}, f
			}
			found := judgeCache(lookAtDirectory(store.Dir()))
			found.Tried = "look at the lab's cache " + store.Dir()
			return found, f
		}},
	)
}

func judgeQEMU(version string) Finding {
	if version == "" {
		return Finding{State: Trouble, Came: "it is not installed", Do: "run scripts/lab-deps.sh, or install QEMU with the package manager"}
	}
	return Finding{State: Fine, Came: version}
}

// overheadMB is what QEMU takes beside a guest's memory, in MiB.
const overheadMB = 150

// largestGuest is the memory of the largest configured guest, in MiB.
func largestGuest(o Options) int {
	const usual = 512
	most := 0
	for _, t := range o.Config.Templates {
		most = max(most, cmp.Or(o.Config.Lab.Recipes[t.Name].MemoryMB, usual))
	}
	return most
}

func availableMemory() (uint64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var kiB uint64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kiB); err == nil {
			return kiB << 10, nil
		}
	}
	return 0, errors.New("it has no MemAvailable")
}

// judgeMemory compares the available memory, in bytes, with what guests of so
// many MiB take, one of them and as many as may run side by side.
func judgeMemory(available uint64, err error, guestMB, guests int) Finding {
	if err != nil {
		return Finding{State: Unproven, Came: err.Error()}
	}
	one := uint64(guestMB+overheadMB) << 20 //nolint:gosec // both are positive
	f := Finding{State: Fine, Came: fmt.Sprintf("%s available; a guest takes up to %s, and %d may run side by side", bytesText(available), bytesText(one), guests)}
	switch {
	case available < one:
		f.State, f.Do = Trouble, "free memory, or give the recipe less (memory-mb in ginkgo.yml)"
	case available < one*uint64(guests): //nolint:gosec // it is positive
		f.State, f.Do = Warning, "not all of them fit: set lab.max-guests lower, or run fewer processes"
	}
	return f
}

func judgeCache(d directory) Finding {
	f := Finding{State: Fine, Came: fmt.Sprintf("writable, %s free of %s", bytesText(d.free), bytesText(d.size))}
	switch {
	case d.err != nil:
		f.State, f.Came, f.Do = Trouble, d.err.Error(), "set lab.cache in ginkgo.yml to a directory that can be written"
	case !d.writable:
		f.State, f.Came, f.Do = Trouble, "it cannot be written", "set lab.cache in ginkgo.yml to a directory that this user may write"
	case d.free < leastRoom:
		f.State, f.Do = Warning, "make room: kernel, images and the guests' layers take up to some gigabytes"
	}
	return f
}

// labHops look whether the lab's cache has all, how guests run, and start it.
func labHops(o Options) []hop {
	waits := o.Config.Intervals
	start := hop{name: "lab.start", tried: "start the lab", needs: []string{"lab.cache", "memory"}, wait: waits.Create, try: func(ctx context.Context, f facts) (Finding, facts) {
		endpoints, stop, err := o.StartLab(ctx, f.specs)
		if err != nil {
			return Finding{State: Trouble, Came: err.Error(), Do: "run make e2e TARGET=lab, which shows the lab's own messages"}, f
		}
		f.stopLab = stop
		f.live.APIURL, f.live.SandboxURL, f.live.APIKey, f.live.AdminToken = endpoints.APIURL, endpoints.SandboxURL, endpoints.APIKey, endpoints.AdminToken
		f.live.Logs = append(f.live.Logs[:0:0], logOf(endpoints))
		return Finding{State: Fine, Came: "its API is at " + endpoints.APIURL + ", its sandboxes at " + endpoints.SandboxURL}, f
	}}
	if o.NoSandbox {
		start.try = func(_ context.Context, f facts) (Finding, facts) {
			return leftOut("that the lab starts, and everything behind its API"), f
		}
	}
	return []hop{
		{name: "lab.cache", tried: "look for the kernel and the templates' images in the lab's cache", needs: []string{"e2fsprogs", "qemu", "disk"}, wait: waits.Create, try: func(ctx context.Context, f facts) (Finding, facts) {
			return lookAtCache(ctx, o, f)
		}},
		{name: "lab.acceleration", tried: "find out how guests run", needs: []string{"lab.cache"}, wait: waits.Hop, try: func(_ context.Context, f facts) (Finding, facts) {
			return judgeAcceleration(f.accel), f
		}},
		start,
	}
}

func lookAtCache(ctx context.Context, o Options, f facts) (Finding, facts) {
	specs, _, err := lab.Templates(ctx, o.Config, o.Source, o.Dir)
	if err != nil {
		return Finding{State: Trouble, Came: err.Error(), Do: "the lab's stand-in is built with the go command from this source"}, f
	}
	accel, why, err := lab.Ready(ctx, o.Config.Lab.Cache, specs)
	switch {
	case errors.Is(err, guestos.ErrNotCached):
		return Finding{State: Unproven, Came: err.Error(), Do: "run sandproof lab prepare (make e2e does it, too): it fetches and builds what is missing"}, f
	case err != nil:
		return Finding{State: Trouble, Came: err.Error(), Do: "see the recipe in ginkgo.yml, or remove the lab's cache and run sandproof lab prepare"}, f
	}
	f.specs, f.accel = specs, string(accel)+": "+why
	return Finding{State: Fine, Came: fmt.Sprintf("kernel, initramfs and %d image(s) are there", len(specs))}, f
}

// judgeAcceleration judges how guests run, by the lab's own probe boot.
func judgeAcceleration(accel string) Finding {
	if strings.HasPrefix(accel, string(qemu.KVM)) {
		return Finding{State: Fine, Came: accel}
	}
	// It works, and nothing about a verdict depends on it.
	return Finding{State: Fine, Came: accel + "; that is slower, and changes no verdict"}
}

func logOf(e lab.Endpoints) config.LogGlob { return config.LogGlob{Dirs: e.LogDirs, Task: e.LogTask} }
